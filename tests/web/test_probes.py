"""What a kubelet and a Prometheus see: three pages, and readiness in every case there is."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.waiting import DEADLINE_S, free_port, wait_until
from tests.web.conftest import Api, Live
from tests.web.life import Upstream, get, url_of, wait_status


def test_three_pages_and_nothing_else(live: Live, manifest: Path) -> None:
    url = url_of(live("--manifests", manifest))
    assert get(url, "/healthz") == (200, "ok\n")
    assert get(url, "/readyz") == (200, "ready\n")
    status, text = get(url, "/metrics")
    assert status == 200
    assert re.search(r"^mcsdns_ready 1\.0$", text, re.MULTILINE)
    for path in ("/", "/api/services", "/static/", "/healthz/", "/metrics/x", "//healthz"):
        assert get(url, path)[0] == 404, path


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_head_says_the_same_without_a_body(live: Live, manifest: Path, path: str) -> None:
    url = url_of(live("--manifests", manifest))
    assert get(url, path, "HEAD") == (200, "")
    assert get(url, path, "POST")[0] == 405


def test_the_page_has_the_probes_too(live: Live, manifest: Path) -> None:
    server = live("--manifests", manifest, "--admin", "127.0.0.1:0")
    page = url_of(server, "status page")
    assert get(page, "/readyz") == get(url_of(server), "/readyz") == (200, "ready\n")
    assert get(page, "/metrics")[0] == get(page, "/")[0] == 200


def test_addresses_of_upstreams_are_on_the_page_alone(
    live: Live, manifest: Path, upstream: Upstream
) -> None:
    given = ("--upstream", upstream.text, "--admin", "127.0.0.1:0")
    server = live("--manifests", manifest, *given)
    everybodys, page = url_of(server), url_of(server, "status page")
    assert f'{{upstream="{upstream.text}"}}' in get(page, "/metrics")[1]
    assert '{upstream="1"}' in get(everybodys, "/metrics")[1]
    assert upstream.text not in get(everybodys, "/metrics")[1] + get(everybodys, "/readyz")[1]


def test_not_ready_before_everything_is_read(live: Live, manifest: Path) -> None:
    server = live("--manifests", "-", manifest, ready=False, stdin=subprocess.PIPE)
    url = url_of(server)
    assert get(url, "/readyz") == (503, "not ready\nthe objects have not been read yet\n")
    assert get(url, "/healthz")[0] == 200
    assert "mcsdns_ready 0.0" in get(url, "/metrics")[1]
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert wait_status(url, "/readyz", 200) == "ready\n"


def test_problems_of_manifests_are_told_and_change_nothing(live: Live, manifest: Path) -> None:
    (manifest.parent / "bad.yaml").write_text("a: b: c\n")
    status, text = get(url_of(live("--manifests", manifest.parent)), "/readyz")
    assert (status, text) == (200, "ready\nmanifests have problems\n")


def test_the_page_says_in_words_what_is_wrong(live: Live, manifest: Path) -> None:
    (manifest.parent / "bad.yaml").write_text("a: b: c\n")
    server = live("--manifests", manifest.parent, "--admin", "127.0.0.1:0")
    status, text = get(url_of(server, "status page"), "/readyz")
    assert status == 200
    assert text.startswith(f"ready\n{manifest.parent / 'bad.yaml'}:1: document: $: not YAML: ")


def test_without_a_source_the_sockets_are_enough(live: Live, upstream: Upstream) -> None:
    url = url_of(live("--source", "none", "--upstream", upstream.text))
    assert get(url, "/readyz") == (200, "ready\n")


def kubeconfig_to_nowhere(folder: Path) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        f"clusters: [{{name: x, cluster: {{server: 'http://127.0.0.1:{free_port()}'}}}}]\n"
        "users: [{name: x, user: {token: x}}]\n"
        "contexts: [{name: x, context: {cluster: x, user: x}}]\n"
    )
    return path


def test_api_server_that_is_away_from_the_start(live: Live, tmp_path: Path) -> None:
    given = ("--kubeconfig", kubeconfig_to_nowhere(tmp_path))
    url = url_of(live(*given, ready=False))
    wait_until(lambda: "no connection" in get(url, "/readyz")[1], "a reason")
    status, text = get(url, "/readyz")
    assert status == 503
    assert text.startswith("not ready\n")
    assert "127.0.0.1" not in text
    assert get(url, "/healthz") == (200, "ok\n")


def test_api_server_that_is_away_with_an_upstream(
    live: Live, tmp_path: Path, upstream: Upstream
) -> None:
    given = ("--kubeconfig", kubeconfig_to_nowhere(tmp_path), "--upstream", upstream.text)
    assert get(url_of(live(*given, ready=False)), "/readyz")[0] == 200
    url = url_of(live(*given, "--ready-when", "synced", ready=False))
    assert get(url, "/readyz")[0] == 503


def test_ready_when_serving_waits_for_no_source(live: Live, tmp_path: Path) -> None:
    given = ("--kubeconfig", kubeconfig_to_nowhere(tmp_path))
    url = url_of(live(*given, "--ready-when", "serving", ready=False))
    status, text = get(url, "/readyz")
    assert status == 200
    assert "have not been read yet" in text or "no connection" in text


def test_a_snapshot_makes_ready_while_the_api_server_is_away(
    live: Live, api: Api, tmp_path: Path
) -> None:
    api.put_service("web")
    file = tmp_path / "zone.snapshot"
    given = ("--kubeconfig", api.kubeconfig, "--snapshot", file)
    first = live(*given)
    assert get(url_of(first), "/readyz") == (200, "ready\n")
    wait_until(file.exists, "the snapshot")
    first.end()
    api.go_away()
    url = url_of(live(*given))
    status, text = get(url, "/readyz")
    assert status == 200
    assert "a snapshot is served until the API server answers\n" in text
    assert str(tmp_path) not in text
    assert "answers say that they are stale" in text
    api.come_back()
    wait_until(lambda: get(url, "/readyz") == (200, "ready\n"), "fresh")


def test_once_ready_an_outage_changes_the_reasons_alone(live: Live, api: Api) -> None:
    api.put_service("web")
    url = url_of(live("--kubeconfig", api.kubeconfig))
    assert get(url, "/readyz") == (200, "ready\n")
    api.go_away()
    wait_until(lambda: "no connection" in get(url, "/readyz")[1], "a reason")
    assert get(url, "/readyz")[0] == 200
    assert api.fake.url not in get(url, "/readyz")[1]
    api.come_back()
    wait_until(lambda: get(url, "/readyz") == (200, "ready\n"), "no reason")


def test_broken_permissions_stay_not_ready_and_the_page_names_the_rule(
    live: Live, api: Api
) -> None:
    api.revoke("endpointslices")
    server = live("--kubeconfig", api.kubeconfig, "--admin", "127.0.0.1:0", ready=False)
    url = url_of(server)
    wait_until(lambda: "not permitted" in get(url, "/readyz")[1], "a reason")
    status, text = get(url, "/readyz")
    assert (status, text) == (503, "not ready\nendpointslices: not permitted (403)\n")
    status, text = get(url_of(server, "status page"), "/readyz")
    assert status == 503
    assert "discovery.k8s.io" in text


@pytest.mark.parametrize("flag", ["--admin", "--probes"])
def test_port_in_use_that_was_asked_for_is_one_line(
    serve: Serve, manifest: Path, flag: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        place = f"127.0.0.1:{theirs.getsockname()[1]}"
        server = serve("--manifests", manifest, flag, place, ready=False)
        assert server.process.wait(DEADLINE_S) == 2
    port = place.rpartition(":")[2]
    assert server.log == (
        f"mcsdns: {flag} {place}: the port is in use; `ss -lnp sport = :{port}` shows by whom, "
        f"choose another with {flag} ADDR:PORT\n"
    )


def test_default_port_in_use_costs_only_the_page(serve: Serve, manifest: Path) -> None:
    try:
        theirs = socket.create_server(("127.0.0.1", 8053))
    except OSError:
        theirs = None  # somebody has it, which is as good
    try:
        server = serve("--manifests", manifest, env={**os.environ, "MCSDNS_ADMIN": ""})
        assert "WARNING there is no status page: --admin 127.0.0.1:8053: the port is" in server.log
        assert server.end() == 0
    finally:
        if theirs:
            theirs.close()


def test_all_addresses_of_both_families(live: Live, serve: Serve, manifest: Path) -> None:
    port = free_port()
    server = serve("--manifests", manifest, "--probes", f":{port}")
    server.wait_log(f"probes on http://[::]:{port}/")
    for host in ("127.0.0.1", "[::1]"):
        assert get(f"http://{host}:{port}/", "/healthz") == (200, "ok\n")


def test_idle_connections_make_room(live: Live, manifest: Path) -> None:
    url = url_of(live("--manifests", manifest))
    host, _, port = url.split("/")[2].rpartition(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    try:
        assert get(url, "/healthz") == (200, "ok\n")
    finally:
        for each in idle:
            each.close()


def test_a_line_without_end_is_refused(live: Live, manifest: Path) -> None:
    url = url_of(live("--manifests", manifest))
    host, _, port = url.split("/")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as sock:
        sock.sendall(b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n")
        assert b" 414 " in sock.recv(4096).split(b"\r\n")[0]
    assert get(url, "/healthz") == (200, "ok\n")
