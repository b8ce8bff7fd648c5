"""`mcsdns serve` as a process: ready, answers, edits, wrong surroundings, and its end."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dnslib
import pytest

from mcsdns import config
from mcsdns.app import process
from mcsdns.errors import ConfigError
from mcsdns.server import udp
from tests.conftest import READY, Serve, ServeProcess, addresses, ask, rcode
from tests.sources.manifests.test_documents import IMPORT, SLICE
from tests.waiting import DEADLINE_S, TRY_S, free_port, wait_until

KEPT = "what it said before is still served"


def service(name: str, *ips: str) -> str:
    return IMPORT.replace("web", name).replace("10.0.0.1", ", ".join(ips or ["10.0.0.1"]))


def write(path: Path, *documents: str) -> Path:
    path.write_text("---\n".join(documents))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Manifests of one service, `web.shop`."""
    write(tmp_path / "web.yaml", service("web"))
    return tmp_path


def test_one_line_tells_that_it_is_ready(serve: Serve, folder: Path) -> None:
    write(folder / "db.yaml", service("db").replace("ClusterSetIP", "Headless"), SLICE)
    server = serve("--manifests", folder, folder / "web.yaml")
    ready = READY.fullmatch(server.out)
    assert ready is not None
    assert (ready["services"], ready["endpoints"]) == ("2", "1")
    assert ready["source"] == f"{folder}, {folder / 'web.yaml'}"
    assert ready["addresses"].startswith("127.0.0.1:")


def test_edit_break_mend_and_stop(serve: Serve, folder: Path) -> None:
    server = serve("--manifests", folder)
    for tcp in (False, True):
        assert addresses(server.ask("web.shop", tcp=tcp)) == ["10.0.0.1"]
    assert rcode(server.ask("other.shop")) == "NXDOMAIN"
    write(folder / "other.yaml", service("other", "10.0.0.3"))
    server.wait_for("other.shop", ["10.0.0.3"])
    write(folder / "web.yaml", service("web", "10.0.0.2"))
    server.wait_for("web.shop", ["10.0.0.2"])
    write(folder / "web.yaml", service("web", "10.0.0.2").replace("80", "http"))
    server.wait_log(
        f"{folder / 'web.yaml'}:8: ServiceImport shop/web: $.spec.ports[0].port: "
        f"Expected `int | null`, got `str`; {KEPT}"
    )
    assert addresses(server.ask("web.shop")) == ["10.0.0.2"]
    write(folder / "web.yaml", service("web", "10.0.0.4"))
    server.wait_for("web.shop", ["10.0.0.4"])
    (folder / "other.yaml").unlink()
    wait_until(lambda: rcode(server.ask("other.shop")) == "NXDOMAIN")
    assert server.end() == 0
    assert server.log.endswith("INFO stopping on SIGTERM\n")


def test_before_everything_is_read_nothing_is_denied(serve: Serve, folder: Path) -> None:
    port = free_port()
    server = serve(
        *("--manifests", "-", folder, "--listen", f"127.0.0.1:{port}"),
        ready=False,
        stdin=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: socket_answers(port))
    for tcp in (False, True):
        for name in ("web.shop.svc.clusterset.local", "nothing.clusterset.local"):
            reply = ask(("127.0.0.1", port), name, tcp=tcp)
            assert rcode(reply) == "SERVFAIL"
            ((code, text),) = extended_errors(reply)
            assert (code, text) == (14, "the objects have not been read yet")
    assert server.out == ""
    assert server.process.stdin is not None
    server.process.stdin.write(service("piped", "10.0.0.9"))
    server.process.stdin.close()
    server.wait_ready()
    assert addresses(server.ask("piped.shop")) == ["10.0.0.9"]
    assert addresses(server.ask("web.shop")) == ["10.0.0.1"]
    write(folder / "web.yaml", service("web", "10.0.0.2"))
    server.wait_for("web.shop", ["10.0.0.2"])
    assert addresses(server.ask("piped.shop")) == ["10.0.0.9"]


def socket_answers(port: int) -> bool:
    try:
        ask(("127.0.0.1", port), "clusterset.local", "SOA", timeout_s=TRY_S)
    except OSError:
        return False
    return True


def extended_errors(reply: dnslib.DNSRecord) -> list[tuple[int, str]]:
    (opt,) = (record for record in reply.ar if record.rtype == dnslib.QTYPE.OPT)
    return [
        (int.from_bytes(option.data[:2], "big"), option.data[2:].decode())
        for option in opt.rdata
        if option.code == 15
    ]


class Witness:
    """Asks the same question without end and keeps all that is answered."""

    def __init__(self, server: ServeProcess, name: str) -> None:
        self.seen: set[tuple[str, tuple[str, ...]]] = set()
        self.asked = 0
        self._server, self._name = server, name
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Witness":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def wait_for(self, *expected: str) -> None:
        """Wait until it was answered with these addresses."""
        wait_until(lambda: ("NOERROR", expected) in self.seen, f"{self._name} {expected}")

    def _ask(self) -> None:
        while not self._stopped.is_set():
            reply = self._server.ask(self._name, tcp=self.asked % 10 == 9)
            self.seen.add((rcode(reply), tuple(addresses(reply))))
            self.asked += 1
            self._stopped.wait(0.005)  # leaves the processors to the server


def rename(path: Path, text: str) -> None:
    (path.parent / ".tmp").write_text(text)
    (path.parent / ".tmp").rename(path)


Write = Callable[[str], object]


@contextlib.contextmanager
def read_by(server: ServeProcess, problem: str) -> Iterator[None]:
    """What is written here is read, and found to be wrong, before anything else is written."""
    before = server.log.count(problem)
    yield
    wait_until(lambda: server.log.count(problem) > before, problem)


def test_edits_leave_no_gap_in_answers(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.yaml"
    others = [service(f"other-{number}") for number in range(20)]
    write(path, service("web", "10.0.0.0", "10.1.0.0"), *others)
    server = serve("--manifests", tmp_path / "in")

    def line_by_line(text: str) -> None:
        with path.open("w") as file:
            for line in text.splitlines(keepends=True):
                file.write(line)
                file.flush()

    def remove_first(text: str) -> None:
        path.unlink()
        path.write_text(text)

    def truncate_first(text: str) -> None:
        with read_by(server, "it is empty"):
            os.truncate(path, 0)
        path.write_text(text)

    def break_first(text: str) -> None:
        with read_by(server, "not YAML"):
            path.write_text("a: b: c\n")
        path.write_text(text)

    def whole_folder(text: str) -> None:
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        path.write_text(text)

    edits: list[Write] = [
        *(path.write_text, partial(rename, path), line_by_line, remove_first),
        *(truncate_first, break_first, whole_folder),
    ]
    last = 50
    with Witness(server, "web.shop") as witness:
        for number in range(1, last + 1):
            web = service("web", f"10.0.0.{number}", f"10.1.0.{number}")
            edit, some = edits[number % len(edits)], others[number % 3 :]
            # what is written line by line may seem to be done halfway: what we look at comes first
            edit("---\n".join([web, *some] if edit is line_by_line else [*some, web]))
            if number % 10 == 0:
                witness.wait_for(f"10.0.0.{number}", f"10.1.0.{number}")
    allowed = {("NOERROR", (f"10.0.0.{n}", f"10.1.0.{n}")) for n in range(last + 1)}
    assert witness.seen <= allowed


def big(services: int) -> str:
    """About 1.2 kB for each service."""
    endpoint = "- addresses: [10.1.0.1]\n  hostname: pod-%d\n  conditions:\n    ready: true\n"
    endpoints = "".join(endpoint % number for number in range(10))
    texts: list[str] = []
    for number in range(services):
        piece = SLICE.replace("- addresses: [10.1.0.1]\n", endpoints)
        texts.append(service(f"db-{number}").replace("ClusterSetIP", "Headless"))
        texts.append(piece.replace("db-1", f"db-{number}-1").replace(": db\n", f": db-{number}\n"))
    return "---\n".join(texts)


def test_reading_much_does_not_hold_up_answers(serve: Serve, folder: Path) -> None:
    server = serve("--manifests", folder)
    rename(folder / "big.yaml", big(4000))
    wait_until(server.child)
    reader = server.child()
    os.kill(reader, signal.SIGSTOP)  # however long reading takes
    for _ in range(50):
        assert addresses(server.ask("web.shop")) == ["10.0.0.1"]
    os.kill(reader, signal.SIGCONT)
    with Witness(server, "web.shop") as witness:
        server.wait_for("db-3999.shop", ["10.1.0.1"])
    assert witness.seen == {("NOERROR", ("10.0.0.1",))}
    assert server.end() == 0


def test_reader_that_is_killed_leaves_the_last_good_state(serve: Serve, folder: Path) -> None:
    server = serve("--manifests", folder)
    rename(folder / "web.yaml", big(4000) + "---\n" + service("web", "10.0.0.2"))
    write(folder / "zoo.yaml", service("zoo", "10.0.0.3"))
    wait_until(server.child)
    os.kill(server.child(), signal.SIGKILL)
    server.wait_log(
        f"{folder / 'web.yaml'}: file: $: reading it was ended by signal 9, "
        f"perhaps for want of memory; {KEPT}"
    )
    server.wait_for("zoo.shop", ["10.0.0.3"])
    assert addresses(server.ask("web.shop")) == ["10.0.0.1"]
    write(folder / "web.yaml", service("web", "10.0.0.4"))
    server.wait_for("web.shop", ["10.0.0.4"])


def test_end_does_not_wait_for_the_reader(serve: Serve, folder: Path) -> None:
    server = serve("--manifests", folder)
    rename(folder / "big.yaml", big(4000))
    wait_until(server.child)
    child = server.child()
    assert server.end() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_hostile_files_cost_only_themselves_from_the_start(serve: Serve, folder: Path) -> None:
    write(folder / "brackets.yaml", "[" * 100_000)
    write(folder / "brackets.json", '{"a":' * 100_000)
    write(folder / "bomb.yaml", "a: &a [x]\n" + "".join(f"b{i}: &a [*a, *a]\n" for i in range(99)))
    write(folder / "circle.yaml", "&a [*a]")
    (folder / "octets.yaml").write_bytes(b"\xff\x00\xfe")
    with (folder / "large.yaml").open("w") as file:
        file.truncate(100 << 20)
    (folder / "folder.yaml").mkdir()
    os.mkfifo(folder / "pipe.yaml")
    os.symlink("ring.yaml", folder / "ring.yaml")
    os.symlink(".", folder / "again")
    server = serve("--manifests", folder)
    assert addresses(server.ask("web.shop")) == ["10.0.0.1"]
    lines = [line.split(" WARNING ")[1] for line in server.log.splitlines()]
    said = {line.removeprefix(f"{folder}/").split(":")[0]: line for line in lines}
    assert len(lines) == len(said) == 8
    assert "larger than 67108864 octets, it is not read; split it, or raise" in said["large.yaml"]
    assert "deeper than 500 levels" in said["brackets.yaml"]
    assert "nested too deep" in said["brackets.json"]
    assert "Too many levels of symbolic links" in said["ring.yaml"]
    assert "not a regular file" in said["pipe.yaml"]


def stopped(server: ServeProcess) -> tuple[int, str]:
    """Wait for a server that ends by itself; return its status and what it said."""
    status = server.process.wait(DEADLINE_S)
    assert server.out == ""
    return status, server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("tcp", [False, True])
def test_what_was_asked_before_the_signal_is_answered(
    serve: Serve, folder: Path, number: signal.Signals, tcp: bool
) -> None:
    server = serve("--manifests", folder)
    count = 150  # whose replies fit a receive buffer
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(server.address)
        wires = [
            dnslib.DNSRecord.question(f"n{each}.shop.svc.clusterset.local").pack()
            for each in range(count)
        ]
        for wire in wires:
            sock.send(len(wire).to_bytes(2, "big") + wire if tcp else wire)
        assert server.end(number) == 0
        if tcp:
            with sock.makefile("rb") as stream:
                received = sum(1 for _ in iter(lambda: next_message(stream), b""))
        else:
            received = sum(1 for _ in range(count) if sock.recv(4096))
    assert received == count
    assert f"stopping on {number.name}" in server.log


def next_message(stream: "socket.SocketIO | object") -> bytes:
    size = stream.read(2)  # type: ignore[union-attr]
    return stream.read(int.from_bytes(size, "big"))  # type: ignore[union-attr, no-any-return]


def taken(family: int, kind: int, host: str) -> socket.socket:
    """A socket of somebody else."""
    sock = socket.socket(family, kind)
    sock.bind((host, 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


CONFLICTS = [
    (socket.SOCK_DGRAM, "127.0.0.1", "127.0.0.1"),
    (socket.SOCK_STREAM, "127.0.0.1", "127.0.0.1"),
    (socket.SOCK_DGRAM, "127.0.0.1", "0.0.0.0"),
    (socket.SOCK_STREAM, "127.0.0.1", "0.0.0.0"),
    (socket.SOCK_DGRAM, "0.0.0.0", "127.0.0.1"),
    (socket.SOCK_STREAM, "0.0.0.0", "127.0.0.1"),
    (socket.SOCK_DGRAM, "::1", "[::1]"),
    (socket.SOCK_STREAM, "::1", "[::]"),
]


@pytest.mark.parametrize(("kind", "theirs", "ours"), CONFLICTS)
def test_port_that_somebody_has_is_one_line(
    serve: Serve, folder: Path, kind: int, theirs: str, ours: str
) -> None:
    family = socket.AF_INET6 if ":" in theirs else socket.AF_INET
    with taken(family, kind, theirs) as sock:
        listen = f"{ours}:{sock.getsockname()[1]}"
        port = sock.getsockname()[1]
        status, said = stopped(serve("--manifests", folder, "--listen", listen, ready=False))
    assert status == 2
    assert said == (
        f"mcsdns: --listen {listen}: the port is in use; `ss -lnp sport = :{port}` shows by "
        "whom, choose another with --listen ADDR:PORT\n"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")],
)
def test_two_servers_never_share_a_port(
    serve: Serve, folder: Path, first: str, second: str
) -> None:
    server = serve("--manifests", folder, "--listen", f"{first}:0")
    port = server.address[1]
    listen = f"{second}:{port}"
    status, said = stopped(serve("--manifests", folder, "--listen", listen, ready=False))
    assert (status, said.startswith(f"mcsdns: --listen {listen}: the port is in use")) == (2, True)
    assert addresses(ask(("127.0.0.1", port), "web.shop.svc.clusterset.local")) == ["10.0.0.1"]


def test_address_that_this_host_lacks_is_one_line(serve: Serve, folder: Path) -> None:
    server = serve("--manifests", folder, "--listen", "192.0.2.1:5300", ready=False)
    assert stopped(server) == (
        2,
        (
            "mcsdns: --listen 192.0.2.1:5300: this host has no such address; "
            "`ip address` lists those it has\n"
        ),
    )


def drop_privilege() -> None:
    """Take the right to low ports off this process and all that it starts."""
    prctl_drop_from_bounding_set, cap_net_bind_service = 24, 10
    ctypes.CDLL(None).prctl(prctl_drop_from_bounding_set, cap_net_bind_service)


def test_free_port_without_the_right_to_it_is_one_line(serve: Serve, folder: Path) -> None:
    start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not start.exists() or int(start.read_text()) <= 853:
        pytest.skip("low ports are free for all here")
    server = serve(
        *("--manifests", folder, "--listen", "127.0.0.1:853"),
        ready=False,
        preexec_fn=drop_privilege,
    )
    assert stopped(server) == (
        2,
        (
            "mcsdns: --listen 127.0.0.1:853: not permitted; choose a port from 1024 on, or allow "
            "CAP_NET_BIND_SERVICE\n"
        ),
    )


def test_path_that_does_not_exist_is_one_line(serve: Serve, folder: Path) -> None:
    server = serve("--manifests", folder, folder / "gone", ready=False)
    assert stopped(server) == (
        2,
        (
            f"mcsdns: {folder / 'gone'}: No such file or directory; name a file or folder of "
            "manifests\n"
        ),
    )


def test_variables_are_settings_and_those_of_kubernetes_are_not(serve: Serve, folder: Path) -> None:
    environment = {
        "MCSDNS_MANIFESTS": str(folder),
        "MCSDNS_TTL": "9",
        "MCSDNS_SERVICE_HOST": "10.0.0.1",
        "MCSDNS_PORT": "udp://10.0.0.1:53",
        "MCSDNS_PORT_53_UDP": "udp://10.0.0.1:53",
        "MCSDNS_PROBES_SERVICE_PORT": "8080",
    }
    server = serve(env={**os.environ, **environment})
    assert server.ask("web.shop").rr[0].ttl == 9


def test_log_can_be_json(serve: Serve, folder: Path) -> None:
    write(folder / "bad.yaml", "a: b: c\n")
    server = serve("--manifests", folder, "--log-format", "json")
    (line,) = server.log.splitlines()
    fields = json.loads(line)
    assert (fields["level"], fields["reason"]) == ("warning", "unreadable")
    assert fields["origin"] == f"{folder / 'bad.yaml'}:1"


def test_wildcard_answers_from_the_address_that_was_asked(serve: Serve, folder: Path) -> None:
    port = free_port()
    serve("--manifests", folder, "--listen", f"0.0.0.0:{port}", f"[::]:{port}")
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.5", "::1"):
        for tcp in (False, True):
            reply = ask((address, port), "web.shop.svc.clusterset.local", tcp=tcp)
            assert addresses(reply) == ["10.0.0.1"]


def test_ipv6_wildcard_does_not_take_ipv4(serve: Serve, folder: Path) -> None:
    server = serve("--manifests", folder, "--listen", "[::]:0")
    with pytest.raises(OSError, match="refused"):
        ask(("127.0.0.1", server.address[1]), "web.shop.svc.clusterset.local")


class Namespace:
    """A network of its own."""

    def __init__(self, name: str) -> None:
        self.prefix = ["ip", "netns", "exec", name]
        self._name = name

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", "-n", self._name, *arguments], check=True, capture_output=True)

    def run(self, *command: str) -> None:
        subprocess.run([*self.prefix, *command], check=True, capture_output=True)

    def ask(self, address: str, port: int) -> list[str]:
        """Ask about `web.shop` from a thread that is in this network."""
        answers: list[str] = []

        def enter_and_ask() -> None:
            with open(f"/var/run/netns/{self._name}") as file:
                assert ctypes.CDLL(None).setns(file.fileno(), 0) == 0
            answers.extend(addresses(ask((address, port), "web.shop.svc.clusterset.local")))

        thread = threading.Thread(target=enter_and_ask)
        thread.start()
        thread.join()
        return answers


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network namespace whose loopback is up; skips where none can be made."""
    name = f"mcsdns-test-{os.getpid()}"
    try:
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made: {error}")
    try:
        made = Namespace(name)
        made.ip("link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@contextlib.contextmanager
def serving_in(
    namespace: Namespace, folder: Path, *flags: str
) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "mcsdns", "serve", "--manifests", str(folder / "web.yaml")]
    process = subprocess.Popen(
        [*namespace.prefix, *command, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)


def test_wildcard_answers_from_addresses_that_came_after_the_start(
    namespace: Namespace, folder: Path
) -> None:
    with serving_in(namespace, folder, "--listen", "0.0.0.0:53", "[::]:53") as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("ready: ")
        namespace.ip("link", "add", "late", "type", "veth", "peer", "name", "other")
        for address in ("192.0.2.1/24", "192.0.2.2/24", "198.51.100.7/32"):
            namespace.ip("address", "add", address, "dev", "late")
        for address in ("2001:db8::1/64", "2001:db8::2/64"):
            namespace.ip("-6", "address", "add", address, "dev", "late", "nodad")
        for name in ("late", "other"):
            namespace.ip("link", "set", name, "up")
        for address in ("192.0.2.1", "192.0.2.2", "198.51.100.7", "2001:db8::1", "2001:db8::2"):
            assert namespace.ask(address, 53) == ["10.0.0.1"]


def test_ipv6_that_is_off_is_one_line_or_passed_over(namespace: Namespace, folder: Path) -> None:
    namespace.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    with serving_in(namespace, folder, "--listen", "[::1]:5300") as server:
        out, said = server.communicate(timeout=DEADLINE_S)
        assert (server.returncode, out) == (2, "")
        assert said.startswith("mcsdns: --listen [::1]:5300: this host has no such address; ")
    with serving_in(namespace, folder, "--listen", "0.0.0.0:53", "[::]:53") as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("ready: ")
        assert namespace.ask("127.0.0.1", 53) == ["10.0.0.1"]


@pytest.fixture
def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that was built or started without IPv6."""
    bind = udp.bind

    def fail(host: str, port: int) -> socket.socket:
        if ":" in host:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return bind(host, port)

    monkeypatch.setattr(udp, "bind", fail)


async def test_kernel_without_ipv6_serves_the_ipv4_wildcard(without_ipv6: None) -> None:
    server = process.Server(config.Settings(listen=["0.0.0.0:0", "[::]:0"], manifests=["."]))
    assert len(server.addresses) == 1
    server.close()
    with pytest.raises(ConfigError, match=r"^--listen \[::\]:5300: IPv6 is off here; listen on"):
        process.Server(config.Settings(listen=["[::]:5300"], manifests=["."]))


def test_sockets_bound_before_a_mistake_are_closed() -> None:
    with pytest.raises(ConfigError, match=r"^--listen 192\.0\.2\.1:5300: this host has no such"):
        process.Server(config.Settings(listen=["127.0.0.1:0", "192.0.2.1:5300"], manifests=["."]))
