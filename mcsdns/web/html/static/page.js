// Keeps the status page up to date: asks the API, draws what changed, says when nobody answers.
// Text comes from objects that others write, so it is only ever set as text: no markup is parsed.
"use strict";
(() => {
  const EVERY_MS = 2000;
  const SERVICES_EVERY = 5; // rounds
  const GIVE_UP_MS = 5000;
  const TYPING_MS = 200;
  const SVG = "http://www.w3.org/2000/svg";
  const ODD = /[\p{C}\p{Z}]/gu; // what has no picture of its own, spaces too
  const byId = (id) => document.getElementById(id);

  // Text.

  const hex = (number) => "\\u" + number.toString(16).padStart(4, "0");
  const legible = (text) =>
    String(text).replace(ODD, (c) => (c === " " ? c : hex(c.codePointAt(0))));
  const count = (number) => String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, ",");
  const rate = (number) => (number > 0 && number < 10 ? number.toFixed(1) : count(number));
  const size = (octets) =>
    octets < 1 << 20 ? (octets / 1024).toFixed(1) + " KiB" : (octets / (1 << 20)).toFixed(1) + " MiB";
  const clock = (seconds) =>
    new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC";

  function ago(seconds) {
    const past = Math.max(0, seconds);
    for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
      if (past >= 2 * length) return Math.floor(past / length) + " " + unit;
    }
    return Math.floor(past) + " s";
  }

  // Elements.

  function make(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    for (const child of children) {
      if (child === null) continue;
      made.append(child instanceof Node ? child : legible(child));
    }
    return made;
  }

  function say(id, text) {
    const element = byId(id);
    const wanted = legible(text);
    if (element.textContent !== wanted) element.textContent = wanted;
  }

  function show(id, isShown) {
    byId(id).hidden = !isShown;
  }

  function fill(id, children) {
    const element = byId(id);
    const made = document.createElement(element.tagName);
    made.append(...children);
    if (made.isEqualNode(withoutSpace(element))) return;
    const focused = element.contains(document.activeElement) ? document.activeElement.href : null;
    element.replaceChildren(...children);
    if (focused) [...element.querySelectorAll("a")].find((a) => a.href === focused)?.focus();
  }

  function withoutSpace(element) {
    const made = document.createElement(element.tagName);
    made.append(...[...element.children].map((child) => child.cloneNode(true)));
    return made;
  }

  const badge = (tone, text) => make("span", "badge " + tone, text);
  const notes = (texts) => texts.map((text) => make("span", "note", text));

  function chip(tone, text, note) {
    const made = make("span", tone ? "chip " + tone : "chip", text);
    if (note) made.append(make("small", "", note));
    return made;
  }

  // What parts.html has as macros.

  function away(each) {
    if (!each.connected) return badge("bad", "away");
    return each.synced ? badge("good", "connected") : badge("warn", "reading");
  }

  function source(each) {
    const heard = each.fresh_s === null ? "" : ", heard " + ago(each.fresh_s) + " ago";
    return make(
      "li", "",
      make("div", "line", make("span", "mono name", each.name), away(each)),
      make("div", "note", each.kind + heard),
      ...each.reasons.map((reason) => make("div", "trouble", reason)),
    );
  }

  function upstreamState(each) {
    if (each.is_down) return badge("bad", "down");
    return each.rtt_s === null ? badge("", "not asked") : badge("good", "up");
  }

  function upstream(each) {
    const zones = each.zones.map((zone) => (zone === "." ? "all other names" : zone.replace(/\.$/, "")));
    const rtt = each.rtt_s === null ? "" : ", " + (each.rtt_s * 1000).toFixed(1) + " ms";
    const failed = each.failed ? ", " + count(each.failed) + " failed" : "";
    return make(
      "li", "",
      make("div", "line", make("span", "mono name", each.upstream), upstreamState(each)),
      make("div", "note", zones.join(", ") + rtt + ", " + count(each.asked) + " asked" + failed),
    );
  }

  const ready = (each) => (each.endpoints ? each.ready + "/" + each.endpoints : "none");

  function cell(title, className, ...children) {
    const made = make("td", className, ...children);
    made.dataset.title = title;
    return made;
  }

  function row(each) {
    const link = make("a", "", each.name);
    link.setAttribute("href", "?" + new URLSearchParams({ name: each.fqdn, type: each.asked }));
    const head = make("th", "", link, make("span", "note", each.namespace));
    head.scope = "row";
    const clusters = each.clusters.map((cluster) => {
      const isShort = cluster.ready < cluster.endpoints || !cluster.slices;
      return chip(isShort ? "warn" : "", cluster.id || "(no cluster)", ready(cluster));
    });
    const ports = each.ports.map((port) =>
      chip("", port.name || "(no name)", (port.number === null ? "no number" : port.number) + "/" + port.protocol));
    return make(
      "tr", "",
      head,
      cell("Type", "", each.type, ...each.ips.map((ip) => make("span", "note mono", ip))),
      cell("Clusters", "", ...clusters),
      cell("Ready", "number", ready(each)),
      cell("Ports", "", ...ports),
      cell("Conditions and conflicts", "",
        ...each.troubles.map((text) => make("span", "trouble", text)),
        ...notes(each.conditions.filter((each) => !each.is_bad).map((condition) => condition.type + ": " + condition.status)),
        ...notes(each.more ? ["and " + each.more + " more things"] : [])),
    );
  }

  // Sections.

  function drawStatus(status) {
    const state = byId("state");
    state.className = "badge " + (status.ready ? "good" : "bad");
    say("state", status.ready ? "ready" : "not ready");
    say("uptime", ago(status.now_s - status.started_s));
    say("as-of", clock(status.now_s));
    fill("alerts", status.alerts.map((text) => make("li", "", text)));
    show("alerts", status.alerts.length > 0);
    if (status.sources.length) fill("sources", status.sources.map(source));
    say("total-services", count(status.services));
    say("total-slices", count(status.slices));
    say("total-endpoints", count(status.endpoints));
  }

  function drawUpstreams(upstreams) {
    show("forwarding", !upstreams.forwarding);
    fill("upstreams", upstreams.upstreams.map(upstream));
    show("cache", upstreams.cache !== null);
    if (upstreams.cache === null) return;
    const figures = [
      ["cached", count(upstreams.cache.replies)],
      ["memory", size(upstreams.cache.size_bytes)],
      ["hits", count(upstreams.cache.hits)],
      ["misses", count(upstreams.cache.misses)],
    ];
    fill("cache", figures.map(([term, value]) => make("div", "", make("dt", "", term), make("dd", "", value))));
  }

  function drawRates(rates) {
    const peak = Math.max(0, ...rates.answers);
    say("rate-now", rate(rates.answers.at(-1) ?? 0));
    say("rate-peak", rate(peak));
    const kinds = Object.entries(rates.kinds).map(([kind, number]) =>
      make("li", "", make("span", "", kind.replaceAll("_", " ")), " ", make("b", "", rate(number))));
    fill("kinds", kinds);
    byId("plot").replaceChildren(plot(rates, peak), ...axis(peak));
  }

  function svg(tag, attributes, ...children) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function plot(rates, peak) {
    const [width, height] = [rates.most - 1, 100];
    const top = nice(peak);
    const first = rates.most - rates.answers.length;
    const points = rates.answers.map((number, at) => `${first + at},${(height * (1 - number / top)).toFixed(2)}`);
    const grid = [0, 50, 100].map((y) => svg("line", { class: "grid", x1: 0, x2: width, y1: y, y2: y }));
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...grid);
    if (points.length > 1) {
      drawing.append(
        svg("path", { class: "area", d: `M${first},${height} L${points.join(" L")} L${width},${height} Z` }),
        svg("path", { class: "curve", d: `M${points.join(" L")}` }),
      );
    }
    return drawing;
  }

  function nice(peak) {
    const power = 10 ** Math.floor(Math.log10(Math.max(peak, 10)));
    return [1, 1.2, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((top) => top >= peak);
  }

  function axis(peak) {
    return [
      make("span", "top", count(nice(peak))),
      make("span", "from", "5 min ago"),
      make("span", "until", "now"),
    ];
  }

  // Services.

  let after = new URLSearchParams(location.search).get("after") || "";

  function wanted(start) {
    const parameters = new URLSearchParams();
    if (byId("q").value.trim()) parameters.set("q", byId("q").value.trim());
    if (byId("troubled").checked) parameters.set("troubled", "1");
    if (start) parameters.set("after", start);
    return parameters;
  }

  function foundText(page) {
    const text = page.matched === page.total
      ? count(page.total) + (page.total === 1 ? " service" : " services")
      : count(page.matched) + " of " + count(page.total) + " services";
    const left = page.services.length < page.matched;
    return left && page.services.length ? text + ", " + page.services.length + " shown" : text;
  }

  function drawServices(page) {
    fill("rows", page.services.map(row));
    say("found", foundText(page));
    show("filter-error", false);
    show("first", after !== "");
    show("next", page.next !== "");
    byId("first").setAttribute("href", "?" + wanted("") + "#services");
    byId("next").setAttribute("href", "?" + wanted(page.next) + "#services");
    byId("next").dataset.after = page.next;
  }

  let asking = 0;

  async function listServices() {
    const mine = ++asking;
    const page = await ask("services", wanted(after));
    if (mine === asking) drawServices(page); // else it was typed on meanwhile
  }

  function remember(parameters) { // so that a reload shows the same
    const address = new URL(location.href);
    for (const name of ["q", "troubled", "after"]) address.searchParams.delete(name);
    for (const [name, value] of parameters) address.searchParams.set(name, value);
    history.replaceState(null, "", address);
  }

  async function search(start) {
    after = start;
    remember(wanted(start));
    try {
      await listServices();
    } catch (error) {
      if (error.isRefused) {
        say("filter-error", error.message);
        show("filter-error", true);
      } else {
        lose(error);
      }
    }
  }

  // Asking, and being without an answer.

  class Refused extends Error {
    isRefused = true;
  }

  async function ask(what, parameters) {
    const query = parameters && parameters.size ? "?" + parameters : "";
    const response = await fetch("api/" + what + query, { signal: AbortSignal.timeout(GIVE_UP_MS) });
    if (response.ok) return response.json();
    if (response.status === 400 || response.status === 429) {
      throw new Refused((await response.json()).error);
    }
    throw new Error("status " + response.status);
  }

  let lastHeard = new Date();
  let isLost = false;

  function lose() {
    if (isLost) return;
    isLost = true;
    const since = clock(lastHeard / 1000);
    say("lost", `No answer from mcsdns since ${since}: it has stopped, or the way to it is cut. ` +
      "What stands here is from then. This page goes on asking.");
    show("lost", true);
    byId("state").className = "badge bad";
    say("state", "no answer");
    document.body.classList.add("lost");
  }

  function find() {
    lastHeard = new Date();
    if (!isLost) return;
    isLost = false;
    show("lost", false);
    document.body.classList.remove("lost");
  }

  let round = 0;
  let timer = null;

  async function look() {
    clearTimeout(timer);
    try {
      const [status, upstreams, rates] = await Promise.all(["sources", "upstreams", "rates"].map((what) => ask(what)));
      const wasLost = isLost;
      find();
      drawStatus(status);
      drawUpstreams(upstreams);
      drawRates(rates);
      if (wasLost || ++round % SERVICES_EVERY === 0) await listServices();
    } catch (error) {
      if (!error.isRefused) lose();
    }
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, EVERY_MS);
  }

  // Beginning.

  let typing = null;
  byId("q").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => search(""), TYPING_MS);
  });
  byId("troubled").addEventListener("change", () => search(""));
  byId("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    search("");
  });
  byId("first").addEventListener("click", (event) => {
    event.preventDefault();
    search("");
  });
  byId("next").addEventListener("click", (event) => {
    event.preventDefault();
    search(byId("next").dataset.after ?? new URL(byId("next").href).searchParams.get("after"));
    byId("services").scrollIntoView();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) look();
  });
  byId("filter").classList.add("live");
  look();
})();
