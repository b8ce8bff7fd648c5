"""How values are written on the page; `page.js` writes them in the same way."""

import datetime
import math
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from mcsdns.diagnostics.explain.model import QuestionText, Suggestion
from mcsdns.diagnostics.explain.present import counted, listed
from mcsdns.diagnostics.explain.text import port_text as named_port
from mcsdns.diagnostics.explain.text import to_text
from mcsdns.diagnostics.service_health import ClusterEndpoints
from mcsdns.objects.model import Port
from mcsdns.web.html.picture import draw
from mcsdns.web.services import ListOptions, ServicePage, ServiceRow
from mcsdns.web.status import UpstreamStatus

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_PARTS: Final = {"host", "cluster", "port", "protocol", "service", "namespace", "svc", "zone"}


def ago(seconds: float) -> str:
    """Write an age: `3 s`, `12 min`, `5 h`, `9 d`."""
    seconds = max(0.0, seconds)
    for unit, length in (("d", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if seconds >= 2 * length:
            return f"{math.floor(seconds / length)} {unit}"
    return f"{math.floor(seconds)} s"


def rate(per_second: float) -> str:
    """Write a rate: small ones with a digit more."""
    is_small = 0 < per_second < 10  # noqa: PLR2004
    return f"{per_second:.1f}" if is_small else number(math.floor(per_second + 0.5))


def number(value: int) -> str:
    """Write a number with its thousands apart."""
    return f"{value:,}"


def size(octets: int) -> str:
    """Write a size in MiB or less."""
    if octets < 1 << 20:
        return f"{octets / (1 << 10):.1f} KiB"
    return f"{octets / (1 << 20):.1f} MiB"


def time(seconds: float) -> str:
    """Write a time of day in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ready_text(counts: ClusterEndpoints | ServiceRow) -> str:
    """Write how many endpoints are ready, of how many."""
    return f"{counts.ready}/{counts.endpoints}" if counts.endpoints else "none"


def port_text(port: Port) -> str:
    """Write a port's number and protocol."""
    return f"{'no number' if port.number is None else port.number}/{port.protocol}"


def upstream_note(each: UpstreamStatus) -> str:
    """Write what an upstream is for and how it does."""
    zones = ["all other names" if zone == "." else zone.removesuffix(".") for zone in each.zones]
    rtt = "" if each.rtt_s is None else f", {each.rtt_s * 1000:.1f} ms"
    failed = f", {number(each.failed)} failed" if each.failed else ""
    return f"{', '.join(zones)}{rtt}, {number(each.asked)} asked{failed}"


def part_class(what: str) -> str:
    """Name the style of a part of a name."""
    return f"part-{what}" if what in _PARTS else ""


def found_text(page: ServicePage) -> str:
    """Say how many services there are, and how many are shown."""
    text = f"{number(page.total)} service{'' if page.total == 1 else 's'}"
    if page.matched != page.total:
        text = f"{number(page.matched)} of {number(page.total)} services"
    shown = len(page.services)
    return f"{text}, {shown} shown" if 0 < shown < page.matched else text


def explain_link(row: ServiceRow) -> str:
    """Return where a service's name is explained."""
    return "?" + urlencode({"name": row.fqdn, "type": row.asked})


def suggestion_link(suggestion: Suggestion) -> str:
    """Return where a name that is suggested is explained."""
    return "?" + urlencode({"name": suggestion.name, "type": suggestion.type})


def json_link(question: QuestionText) -> str:
    """Return where the explanation is in full."""
    return "api/explain?" + urlencode({"name": question.name, "type": question.type})


def page_link(options: ListOptions, after: str = "") -> str:
    """Return where a page of services is; `after` as `ServicePage.next`."""
    parameters = {"q": options.text, "troubled": "1" if options.troubled else "", "after": after}
    return "?" + urlencode({name: value for name, value in parameters.items() if value})


def plain(name: str) -> str:
    """Write an absolute name without its last dot."""
    return name.removesuffix(".") or "."


FILTERS: Final[dict[str, Callable[..., Any]]] = {"named_port": named_port} | {
    each.__name__: each
    for each in (
        *(ago, rate, number, size, time, ready_text, port_text, upstream_note, part_class, plain),
        *(found_text, explain_link, suggestion_link, json_link, counted, listed, to_text, draw),
    )
}
"""For the templates, by their names."""
