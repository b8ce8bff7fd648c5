"""Settings: which source wins, what is refused and how, and that the page about them is true."""

import argparse
import json
import os
import runpy
from pathlib import Path

import pytest

from mcsdns import config
from mcsdns.cli import main
from mcsdns.config import environment
from mcsdns.errors import ConfigError
from mcsdns.forward.health import Policy
from mcsdns.objects.decode import SliceProfile
from mcsdns.zone.tree import ClustersetIps, PerCluster
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that we are in, and no variable of ours."""
    monkeypatch.chdir(tmp_path)
    for variable in [*os.environ]:
        if variable.startswith("MCSDNS_"):
            monkeypatch.delenv(variable)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return tmp_path


def parse(*arguments: str) -> dict[str, object]:
    """Flags as `serve` gets them."""
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    return vars(parser.parse_args(arguments))


def load(*arguments: str, **variables: str) -> config.Settings:
    return config.load(parse(*arguments), {f"MCSDNS_{key}": v for key, v in variables.items()})


def write(text: str | bytes, path: str = "c.yaml") -> str:
    Path(path).write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_flag_wins_over_variable_over_file_over_default() -> None:
    file = write("ttl: 7\n")
    assert load().ttl == 5
    assert load("--config", file).ttl == 7
    assert load(CONFIG=file).ttl == 7
    assert load("--config", file, TTL="8").ttl == 8
    assert load("--config", file, "--ttl", "9", TTL="8").ttl == 9


def test_config_flag_wins_over_its_variable() -> None:
    assert load("--config", write("ttl: 7\n"), CONFIG="nowhere").ttl == 7


def test_list_is_taken_whole_from_the_first_that_has_it() -> None:
    file = write("zone: [a.example, b.example]\n")
    assert load("--config", file).zone == ["a.example", "b.example"]
    assert load("--config", file, ZONE="c.example").zone == ["c.example"]
    assert load("--zone", "d.example", "--zone", "e.example", "f.example", ZONE="c").zone == [
        *("d.example", "e.example", "f.example")
    ]


VALUES: list[tuple[str, str, object]] = [
    # name, text of a flag or variable, value
    ("manifests", "a b", ["a b"]),
    ("source", "none", "none"),
    ("kubeconfig", "kube.yaml", "kube.yaml"),
    ("context", "prod", "prod"),
    ("in_cluster", "true", True),
    ("import_selector", "team=web", "team=web"),
    ("snapshot", "zone.snapshot", "zone.snapshot"),
    ("snapshot_max_age", "60", 60.0),
    ("stale_after", "0", 0.0),
    ("guard_share", "0.25", 0.25),
    ("guard_least", "3", 3),
    ("guard_grace", "5", 5.0),
    ("guard_window", "300", 300.0),
    ("recheck", "0", 0.0),
    ("listen", "[::1]:53", ["[::1]:53"]),
    ("zone", "clusterset.local.", ["clusterset.local."]),
    ("ttl", "0", 0),
    ("max_records", "100", 100),
    ("per_cluster", "nodata", PerCluster.NODATA),
    ("clusterset_ips", "slices", ClustersetIps.SLICES),
    ("slices", "karmada", SliceProfile.KARMADA),
    ("namespace", "shop", ["shop"]),
    ("ns_address", "fd00::1", ["fd00::1"]),
    ("identify", "all", "all"),
    ("rate_limit", "100", 100),
    ("rate_limit_slip", "3", 3),
    ("cookie_secrets", "secrets", "secrets"),
    ("tcp_idle", "0.5", 0.5),
    ("tcp_connections", "1", 1),
    ("tcp_bytes", "1048576", 1 << 20),
    ("kept_bytes", "0", 0),
    ("manifest_max_bytes", "1000", 1000),
    ("upstream", "10.0.0.1", ["10.0.0.1"]),
    ("upstream_from", "resolv.conf", "resolv.conf"),
    (
        "stub_zone",
        "corp.example=10.0.0.1+tcp://[::1]:5353",
        ["corp.example=10.0.0.1+tcp://[::1]:5353"],
    ),
    ("upstream_policy", "random", Policy.RANDOM),
    ("allow", "203.0.113.0/24", ["203.0.113.0/24"]),
    ("loop_mark", "off", "off"),
    ("forward_limit", "10", 10),
    ("cache_entries", "0", 0),
    ("cache_bytes", "0", 0),
    ("cache_max_ttl", "60", 60),
    ("cache_max_negative_ttl", "5", 5),
    ("serve_stale", "0", 0.0),
    ("upstream_ca", "ca.pem", "ca.pem"),
    ("admin", "[::1]:8053", "[::1]:8053"),
    ("probes", ":8080", ":8080"),
    ("ready_when", "synced", "synced"),
    ("lameduck", "1.5", 1.5),
    ("request_metrics", "off", "off"),
    ("query_log", "100", 100),
    ("log_format", "json", "json"),
    ("log_level", "error", "error"),
]


def test_every_setting_is_flag_variable_and_key() -> None:
    write("0" * 32, "secrets")
    assert [name for name, _, _ in VALUES] == [field.name for field in config.fields()]
    for name, text, value in VALUES:
        flag = "--" + name.replace("_", "-")
        given = [flag] if value is True else [flag, text]
        assert getattr(load(*given), name) == value
        assert getattr(load(**{name.upper(): text}), name) == value
        for key in (name, name.replace("_", "-")):
            file = write(f"{key}: {json.dumps(text)}\n")
            assert getattr(load("--config", file), name) == value


def test_variables_hold_several_values_by_commas() -> None:
    assert load(LISTEN="0.0.0.0:53, [::]:53").listen == ["0.0.0.0:53", "[::]:53"]


def test_empty_variable_counts_as_not_there() -> None:
    assert load("--config", write("zone: a.example\nttl: 7"), ZONE="", TTL="") == load(
        "--config", "c.yaml"
    )


SERVICE_LINKS = [
    *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_DNS_TCP", "PORT", "PORT_53_UDP"),
    *("PORT_53_UDP_PROTO", "PORT_53_TCP_PORT", "PORT_53_TCP_ADDR", "PORT_9_SCTP_ADDR"),
    *("ADMIN_SERVICE_HOST", "ADMIN_SERVICE_PORT_HTTP", "ADMIN_PORT", "LOG_PORT_80_TCP_ADDR"),
]


@pytest.mark.parametrize("variable", SERVICE_LINKS)
def test_variables_of_kubernetes_services_are_no_settings(variable: str) -> None:
    assert load(**{variable: "tcp://10.0.0.1:53"}) == load()


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_file_may_be_empty(text: str) -> None:
    assert load("--config", write(text)) == load()


def test_json_is_a_config_file_too() -> None:
    assert load("--config", write('{"ttl":\t7}')).ttl == 7


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must be refused: status 2, and one line, which is returned."""
    with pytest.raises(SystemExit) as ended:
        main.main([*arguments])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("mcsdns: ")
    assert (err.count("\n"), err[-1]) == (1, "\n")
    return err.removeprefix("mcsdns: ").removesuffix("\n")


TTL = "seconds that answers may be cached"
ZONE = "zone to serve"
MAPPING = "a config file is one mapping of settings, such as `ttl: 5`"
ROOT_ZONE = "the root cannot be served; name a zone such as clusterset.local"
NO_VALUES = "mapping values are not allowed in this context (column 7)"
FORM = "what <cluster>.<svc>.<ns>.svc is answered with: refused, auto, nodata or nxdomain"
BRACKETS = "an IPv6 address stands in brackets, an IPv4 address does not"
LETTERS = "lower-case letters, digits and hyphens"
BAD_FILES = [
    ("ttl: 5\nttll: 6\n", "c.yaml:2: ttll: no such setting; did you mean ttl?"),
    ("frobnicate: 6\n", "c.yaml:1: frobnicate: no such setting; `mcsdns serve --help` lists them"),
    ("1: 2\n", "c.yaml:1: 1: no such setting; `mcsdns serve --help` lists them"),
    ("ttl: 5\n\nttl: 6\n", "c.yaml:3: ttl: it stands there twice; keep one"),
    ("tcp_idle: 5\ntcp-idle: 6\n", "c.yaml:2: tcp-idle: it stands there twice; keep one"),
    ("ttl: x\n", f'c.yaml:1: ttl: "x": Expected `int`, got `str`; wanted: {TTL}'),
    ("ttl: true\n", f"c.yaml:1: ttl: true: Expected `int`, got `bool`; wanted: {TTL}"),
    ("ttl: [5]\n", f"c.yaml:1: ttl: [5]: Expected `int`, got `array`; wanted: {TTL}"),
    ("zone:\n", f"c.yaml:1: zone: null: Expected `array`, got `null`; wanted: {ZONE}"),
    ("zone: []\n", f"c.yaml:1: zone: []: Expected `array` of length >= 1; wanted: {ZONE}"),
    ("zone: [a, 5]\n", f'c.yaml:1: zone: ["a", 5]: Expected `str`, got `int`; wanted: {ZONE}'),
    ("zone:\n- .\n", f"c.yaml:1: zone: {ROOT_ZONE}"),
    ("[5]\n", f"c.yaml: {MAPPING}"),
    ("null\n", f"c.yaml: {MAPPING}"),
    ("ttl: 5\n---\nttl: 6\n", f"c.yaml: {MAPPING}"),
    ("ttl: 5\n  zone: a\n", f"c.yaml:2: not YAML: {NO_VALUES}"),
    ("a:\n\tb: 1\n", "c.yaml:2: not YAML: a tab where only spaces may stand (column 1)"),
    (b"ttl: 5\n# \xff\n", "c.yaml:2: not YAML: an octet that is not UTF-8"),
    ("[" * 100_000, "c.yaml:1: not YAML: deeper than 500 levels (column 501)"),
    ("# " + "x" * (1 << 20), "c.yaml: larger than 1048576 octets; name a file of settings"),
]


@pytest.mark.parametrize(("text", "line"), BAD_FILES, ids=[line[:40] for _, line in BAD_FILES])
def test_mistake_in_the_file_is_one_line_with_its_place(
    text: str | bytes, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint(capsys, "serve", "--config", write(text)) == line


BAD_FLAGS = [
    (["--config", "gone"], "gone: No such file or directory; name a YAML file of settings"),
    (["--config", "."], ".: Is a directory; name a YAML file of settings"),
    (["--ttl", "3601"], f'--ttl: "3601": Expected `int` <= 3600; wanted: {TTL}'),
    (["--ttl", "-1"], f'--ttl: "-1": Expected `int` >= 0; wanted: {TTL}'),
    (["--ttl", "9" * 5000], None),
    (["--tcp-idle", "nan"], None),
    (["--tcp-idle", "inf"], None),
    (["--tcp-idle", "0"], None),
    (
        ["--per-cluster", "maybe"],
        f"--per-cluster: \"maybe\": Invalid enum value 'maybe'; wanted: {FORM}",
    ),
    (["--listen", "53"], "--listen: '53' is not ADDR:PORT, such as 127.0.0.1:1053 or [::1]:1053"),
    (["--listen", "localhost:53"], None),
    (["--listen", ":53"], None),
    (["--listen", "127.0.0.1:"], None),
    (["--listen", "127.0.0.1:65536"], None),
    (["--listen", "127.0.0.1:" + "9" * 5000], None),
    (["--listen", "127.0.0.1:+5"], None),
    (["--listen", "127.0.0.1:\u0665"], None),
    (["--listen", "127.1:53"], None),
    (["--listen", "[fe80::1%eth0]:53"], None),
    (["--listen", "::1:53"], f"--listen: '::1:53': {BRACKETS}"),
    (["--listen", "[127.0.0.1]:53"], None),
    (["--listen", "127.0.0.1:53", "x"], None),
    (["--zone", "a..b"], None),
    (["--zone", "a" * 64], None),
    (["--zone", ".".join("a" * 65)], None),
    (["--namespace", "Shop"], f"--namespace: 'Shop' is not a namespace: {LETTERS}"),
    (["--ns-address", "ns.example"], None),
    (["--kept-bytes", "48M"], None),
    (["--ttl"], "argument --ttl: expected one argument; `mcsdns serve --help` explains"),
    (["--tt", "5"], "unrecognized arguments: --tt 5; `mcsdns --help` explains"),
    (["--frobnicate"], "unrecognized arguments: --frobnicate; `mcsdns --help` explains"),
    ([], "no source of objects: give --manifests PATH, or --kubeconfig FILE"),
    (
        ["--manifests", "a", "--kubeconfig", "b"],
        "--manifests and --kubeconfig exclude each other; keep one",
    ),
    (
        ["--context", "prod", "--in-cluster"],
        "--in-cluster and --context exclude each other; keep one",
    ),
    (["--guard-share", "1.5"], None),
    (["--source", "none"], "--source none: give --upstream or --stub-zone, or who answers?"),
    (
        ["--source", "none", "--manifests", "a"],
        "--source none and --manifests exclude each other",
    ),
    (["--upstream", "dns.example"], None),
    (["--stub-zone", "corp.example"], None),
    (["--allow", "10.0.0.1/8"], None),
]


@pytest.mark.parametrize(
    ("flags", "line"), BAD_FLAGS, ids=[" ".join(flags)[:40] for flags, _ in BAD_FLAGS]
)
def test_mistake_in_a_flag_is_one_line_with_its_name(
    flags: list[str], line: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(capsys, "serve", *flags)
    assert said == (line or said)
    assert not flags or flags[0] in said or flags[-1] in said


def test_mistake_in_a_variable_is_one_line_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCSDNS_TTL", "2h")
    assert complaint(capsys, "serve") == (
        f'MCSDNS_TTL: "2h": Expected `int`, got `str`; wanted: {TTL}'
    )
    monkeypatch.delenv("MCSDNS_TTL")
    monkeypatch.setenv("MCSDNS_TTLL", "2")
    assert complaint(capsys, "serve") == "MCSDNS_TTLL: no such setting; did you mean MCSDNS_TTL?"


def test_command_that_does_not_exist_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "invalid choice: 'sevre'" in complaint(capsys, "sevre")
    assert complaint(capsys) == (
        "the following arguments are required: COMMAND; `mcsdns --help` explains"
    )


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["serve", "--help"])
    assert ended.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    for field in config.fields():
        assert f"{field.flag} {field.placeholder}" in out
        assert not field.default_text or f"(default {field.default_text})" in out


def test_settings_of_another_document_are_told_with_its_place() -> None:
    assert config.from_mapping({"ttl": 0, "zone": "a.example"}, "x.yaml:3").ttl == 0
    with pytest.raises(ConfigError, match=r"^x\.yaml:3: tttl: no such setting; did you mean ttl\?"):
        config.from_mapping({"tttl": 0}, "x.yaml:3")


LISTENS = [
    ({}, [("127.0.0.1", 1053)]),
    ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, [("0.0.0.0", 5353), ("::", 5353)]),
]


@pytest.mark.parametrize(("environment", "listens"), LISTENS)
def test_default_addresses_are_those_of_a_pod_in_a_pod(
    environment: dict[str, str], listens: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert load().listen_addresses() == listens
    assert load("--listen", "[::1]:5").listen_addresses() == [("::1", 5)]


def name_server(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[bytes]:
    with monkeypatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        return [*load().zone_settings().name_server]


def test_name_server_has_the_pods_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("POD_IP", "POD_IPS"):
        monkeypatch.delenv(variable, raising=False)
    one, two = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    assert name_server(monkeypatch) == []
    assert name_server(monkeypatch, POD_IP="10.0.0.1") == [one]
    assert name_server(monkeypatch, POD_IPS="10.0.0.1,10.0.0.2,10.0.0.1", POD_IP="10.0.0.9") == [
        *(one, two)
    ]
    assert [*load("--ns-address", "10.0.0.2").zone_settings().name_server] == [two]
    with pytest.raises(ConfigError, match=r"^POD_IP: 'x' does not .*; set it from status.podIPs"):
        name_server(monkeypatch, POD_IP="x")


def test_name_server_has_the_addresses_of_the_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(0, 0, 0, "", (text, 0)) for text in ("10.0.0.1", "fe80::1%eth0", "10.0.0.1")]

    def fail(*_: object) -> None:
        raise OSError("no such name")

    for variable in ("POD_IP", "POD_IPS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(environment.socket, "getaddrinfo", resolve)
    assert len(name_server(monkeypatch, KUBERNETES_SERVICE_HOST="10.0.0.1")) == 2
    monkeypatch.setattr(environment.socket, "getaddrinfo", fail)
    assert name_server(monkeypatch, KUBERNETES_SERVICE_HOST="10.0.0.1") == []


def test_tables_of_settings_are_current() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "make_configuration.py"))
    for path, text in generator["pages"]().items():
        assert path.read_text() == text, "run `python docs/make_configuration.py`"
    page = (ROOT / "docs" / "configuration.md").read_text()
    for field in config.fields():
        assert page.count(f"| `{field.name}` | `{field.flag}") == 1
