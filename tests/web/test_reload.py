"""Other settings for a running process: no question is lost, and bad ones change nothing."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ServeProcess, addresses, ask, rcode
from tests.sources.manifests.test_documents import IMPORT
from tests.waiting import wait_until
from tests.web.conftest import Live
from tests.web.life import Stream, Upstream, get, url_of, wait_status

OURS, THEIRS = "web.shop.svc.clusterset.local", "www.example"

DEFAULTS = {"listen": "['127.0.0.1:0']", "lameduck": "0"}
Write = Callable[..., None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The config file."""
    return tmp_path / "settings.yaml"


@pytest.fixture
def write(file: Path, manifest: Path) -> Write:
    """Write settings, one `key: value` each; the manifest's folder is the source."""

    def write_settings(*lines: str, source: str = f"manifests: ['{manifest.parent}']") -> None:
        part = file.with_suffix(".part")
        keys = [line.partition(":")[0] for line in lines]
        others = [f"{key}: {value}" for key, value in DEFAULTS.items() if key not in keys]
        part.write_text("".join(f"{line}\n" for line in [source, *lines, *others]))
        part.rename(file)

    write_settings("ttl: 7")
    return write_settings


@pytest.fixture
def server(live: Live, file: Path, write: Write) -> ServeProcess:
    """A server with TTL 7 by its config file."""
    return live("--config", file, listen=False, env={**os.environ, "MCSDNS_LAMEDUCK": ""})


def ttl_of(server: ServeProcess) -> int:
    return int(server.ask("web.shop").rr[0].ttl)


def hang_up(server: ServeProcess) -> None:
    server.process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("tcp", [False, True])
def test_another_ttl_takes_effect_between_two_answers(
    server: ServeProcess, write: Write, tcp: bool
) -> None:
    with Stream(server.address, OURS, "no.shop.svc.clusterset.local", tcp=tcp) as stream:
        for ttl in range(8, 14):
            write(f"ttl: {ttl}")
            hang_up(server)
            wait_until(lambda ttl=ttl: ttl_of(server) == ttl, f"TTL {ttl}")  # type: ignore[misc]
            stream.wait_rounds(2)
    ours = {("NOERROR", ("10.0.0.1",), ttl) for ttl in range(7, 14)}
    assert stream.seen[OURS] <= ours
    assert ("NOERROR", ("10.0.0.1",), 13) in stream.seen[OURS]
    assert stream.seen["no.shop.svc.clusterset.local"] == {("NXDOMAIN", (), 0)}
    assert "INFO settings changed: ttl\n" in server.log
    assert server.end() == 0


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["zone: [mesh.example]"], "zone"),
        (["listen: ['192.0.2.1:53']", "snapshot: /not/there"], "snapshot, listen"),
        (["guard_least: 3", "kept_bytes: 1000", "stale_after: 1"], "stale_after, guard_least, k"),
    ],
)
def test_what_needs_a_restart_is_named_and_the_rest_takes_effect(
    server: ServeProcess, write: Write, lines: list[str], names: str
) -> None:
    with Stream(server.address, OURS) as stream:
        write("ttl: 9", *lines)
        server.wait_log(f"WARNING needs a restart to take effect: {names}")
        wait_until(lambda: ttl_of(server) == 9, "TTL 9")
        stream.wait_rounds(2)
    assert stream.seen[OURS] == {("NOERROR", ("10.0.0.1",), ttl) for ttl in (7, 9)}
    status, text = get(url_of(server), "/readyz")
    assert (status, text.count("needs a restart")) == (200, 1)
    assert "mcsdns_config_last_reload_success 1.0" in get(url_of(server), "/metrics")[1]
    write("ttl: 9")
    wait_until(lambda: get(url_of(server), "/readyz")[1] == "ready\n", "nothing to be waited for")


def test_another_source_needs_a_restart(server: ServeProcess, write: Write) -> None:
    write("ttl: 9", source="kubeconfig: /not/there")
    server.wait_log("WARNING needs a restart to take effect: manifests, kubeconfig; what is in")
    wait_until(lambda: ttl_of(server) == 9, "TTL 9")


def test_config_file_is_followed_without_a_signal(server: ServeProcess, write: Write) -> None:
    for ttl in (8, 9, 10):
        write(f"ttl: {ttl}")
        wait_until(lambda ttl=ttl: ttl_of(server) == ttl, f"TTL {ttl}")  # type: ignore[misc]


def test_config_map_is_followed(live: Live, manifest: Path, tmp_path: Path) -> None:
    """The kubelet swaps a link beside the link that the file is."""

    def put(number: int) -> None:
        folder = tmp_path / "volume" / f"..{number}"
        folder.mkdir(parents=True)
        (folder / "mcsdns.yaml").write_text(f"manifests: ['{manifest.parent}']\nttl: {number}\n")
        os.symlink(folder.name, tmp_path / "volume" / "..tmp")
        os.rename(tmp_path / "volume" / "..tmp", tmp_path / "volume" / "..data")

    put(7)
    os.symlink("..data/mcsdns.yaml", tmp_path / "volume" / "mcsdns.yaml")
    server = live("--config", tmp_path / "volume" / "mcsdns.yaml")
    put(8)
    wait_until(lambda: ttl_of(server) == 8, "TTL 8")
    put(9)
    wait_until(lambda: ttl_of(server) == 9, "TTL 9")


def test_config_file_that_goes_away_changes_nothing(
    server: ServeProcess, file: Path, write: Write
) -> None:
    file.unlink()
    hang_up(server)
    server.wait_log(f"ERROR {file}: No such file or directory; name a YAML file of settings; the ")
    assert ttl_of(server) == 7
    write("ttl: 8")
    wait_until(lambda: ttl_of(server) == 8, "TTL 8")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["ttl: x"], 'settings.yaml:2: ttl: "x": Expected `int`, got `str`'),
        (["tttl: 5"], "settings.yaml:2: tttl: no such setting; did you mean ttl?"),
        (["ttl: 8", "manifests_: x"], "settings.yaml:3: manifests_: no such setting"),
        (
            ["ttl: 8", "stub_zone: [a=10.0.0.1, a=10.0.0.2]"],
            "--stub-zone a=10.0.0.2: the zone stands",
        ),
        (["ttl: 8", "source: none"], "--source none and --manifests exclude each other"),
    ],
)
def test_bad_settings_change_nothing(
    server: ServeProcess, write: Write, lines: list[str], said: str
) -> None:
    with Stream(server.address, OURS) as stream:
        write(*lines)
        server.wait_log(said)
        stream.wait_rounds(3)
        assert stream.seen[OURS] == {("NOERROR", ("10.0.0.1",), 7)}
    (line,) = [line for line in server.log.splitlines() if " ERROR " in line]
    assert line.endswith("; the settings in force stay")
    status, text = get(url_of(server), "/readyz")
    assert status == 200
    assert "the settings that were read last are not in force\n" in text
    metrics = get(url_of(server), "/metrics")[1]
    assert 'mcsdns_config_reloads_total{result="refused"} 1.0' in metrics
    assert "mcsdns_config_last_reload_success 0.0" in metrics
    write("ttl: 9")
    wait_until(lambda: ttl_of(server) == 9, "TTL 9")
    assert get(url_of(server), "/readyz")[1] == "ready\n"
    assert "mcsdns_config_last_reload_success 1.0" in get(url_of(server), "/metrics")[1]


def test_settings_change_where_the_manifests_came_by_standard_input(
    live: Live, file: Path, write: Write
) -> None:
    write("ttl: 7", source="manifests: ['-']")
    with open(os.devnull) as nothing:
        server = live("--config", file, stdin=nothing)
    write("ttl: 8", source="manifests: ['-']")
    server.wait_log("INFO settings changed: ttl\n")


def test_settings_that_are_read_when_needed(server: ServeProcess, write: Write) -> None:
    url = url_of(server)
    write("ttl: 7", "log_format: json", "lameduck: 60", "ready_when: serving", "tcp_idle: 3")
    server.wait_log('"settings changed: tcp_idle, ready_when, lameduck, log_format"')
    server.process.send_signal(signal.SIGTERM)
    wait_status(url, "/readyz", 503)
    assert ttl_of(server) == 7
    assert server.end() == 0


def test_hangup_without_a_change_looks_at_the_manifests(
    server: ServeProcess, manifest: Path
) -> None:
    manifest.write_text(IMPORT.replace("10.0.0.1", "10.0.0.2"))
    hang_up(server)
    server.wait_log("INFO the settings have not changed\n")
    server.wait_for("web.shop", ["10.0.0.2"])


def test_other_upstreams_answer_while_the_old_ones_finish(
    server: ServeProcess, write: Write, upstream: Upstream, other_upstream: Upstream
) -> None:
    write("ttl: 7", f"upstream: ['{upstream.text}']")
    server.wait_log("settings changed: upstream\n")
    with Stream(server.address, OURS, THEIRS) as stream:
        upstream.hold()
        wait_until(lambda: upstream.held, "questions in flight")
        write("ttl: 7", f"upstream: ['{other_upstream.text}']")
        wait_until(lambda: server.log.count("settings changed: upstream\n") == 2, "the other one")
        upstream.release()
        wait_until(lambda: len(stream.seen[THEIRS]) == 2, "answers of both")
        stream.wait_rounds(3)
    assert stream.seen[THEIRS] == {("NOERROR", (f"192.0.2.{n}",), 0) for n in (7, 8)}
    assert stream.seen[OURS] == {("NOERROR", ("10.0.0.1",), 7)}


def test_replies_of_upstreams_outlive_another_ttl(live: Live, file: Path, write: Write) -> None:
    upstream = Upstream(ttl=300)
    try:
        write("ttl: 7", f"upstream: ['{upstream.text}']")
        server = live("--config", file)
        assert addresses(ask(server.address, THEIRS)) == ["192.0.2.7"]
        write("ttl: 8", f"upstream: ['{upstream.text}']")
        wait_until(lambda: ttl_of(server) == 8, "TTL 8")
        assert addresses(ask(server.address, THEIRS)) == ["192.0.2.7"]
        assert upstream.asked == 1
    finally:
        upstream.close()


def test_upstreams_that_come_and_go_change_what_is_offered(
    server: ServeProcess, write: Write, upstream: Upstream
) -> None:
    def offers() -> bool:
        return {server.ask("web.shop").header.ra for _ in range(5)} == {1}

    assert not offers()
    write("ttl: 7", f"upstream: ['{upstream.text}']")
    wait_until(offers, "recursion to be offered")
    write("ttl: 7")
    wait_until(lambda: rcode(ask(server.address, THEIRS)) == "REFUSED", "no upstream")
    wait_until(lambda: not offers(), "recursion not to be offered")


def test_query_log_begins_and_ends_with_the_settings(server: ServeProcess, write: Write) -> None:
    server.ask("web.shop")
    write("ttl: 7", "query_log: 1")
    server.wait_log("settings changed: query_log\n")
    for _ in range(3):  # rendered, then kept
        for tcp, transport in ((False, "udp"), (True, "tcp")):
            before = server.log.count(f"query {OURS}. A by {transport} from 127.0.0.1, ")
            server.ask("web.shop", tcp=tcp)
            wait_until(
                lambda before=before, transport=transport: (  # type: ignore[misc]
                    server.log.count(f"query {OURS}. A by {transport} from 127.0.0.1, ") > before
                ),
                f"a line for {transport}",
            )
    lines = [line for line in server.log.splitlines() if " INFO query " in line]
    assert all(line.endswith(", clusterset") and ": NOERROR, " in line for line in lines)
    write("ttl: 7")
    wait_until(lambda: server.log.count("settings changed: query_log\n") == 2, "the end of it")
    count = server.log.count(" INFO query ")
    server.ask("web.shop")
    assert server.log.count(" INFO query ") == count
