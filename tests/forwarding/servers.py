"""Real DNS servers as processes on loopback, with the configuration that a test writes."""

import re
import signal
import socket
import socketserver
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ask, rcode
from tests.paths import which
from tests.waiting import DEADLINE_S, TRY_S, free_port, wait_until

PACKAGES = {
    "unbound": "unbound",
    "knotd": "knot",
    "nsd": "nsd",
    "dnsmasq": "dnsmasq-base",
    "named": "bind9",
    "pdns_recursor": "pdns-recursor",
    "kresd": "knot-resolver",
    "dnsdist": "dnsdist",
    "dnsperf": "dnsperf",
    "dig": "bind9-dnsutils",
}


def need(command: str) -> str:
    """Find a command, or skip and say what to install."""
    found = which(command)
    if found is None:
        package = PACKAGES.get(command)
        how = f" (Debian: apt-get install {package})" if package else ""
        pytest.skip(f"{command} is missing{how}")
    return found


class Daemon:
    """One server with its output in a file; whoever starts it ends it."""

    def __init__(self, folder: Path, command: list[str], address: tuple[str, int]) -> None:
        self.address = address
        self._output = folder / "output"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
            )

    @property
    def port(self) -> int:
        return self.address[1]

    @property
    def text(self) -> str:
        """The address as settings have it."""
        return f"{self.address[0]}:{self.port}"

    @property
    def log(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_ready(self, *names: str, strict: bool = False) -> "Daemon":
        """Wait until it answers a question about names, with whatever if not strict."""
        for name in names:
            wait_until(lambda name=name: self._is_ready(name, strict=strict), f"{self.log} {name}")  # type: ignore[misc]
        assert self.process.poll() is None, self.log
        return self

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait until its sockets are closed."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _is_ready(self, name: str, *, strict: bool) -> bool:
        if self.process.poll() is not None:
            return True
        try:
            reply = ask(self.address, name, "SOA", timeout_s=TRY_S)
        except OSError:
            return False
        return not strict or rcode(reply) == "NOERROR"


class Servers:
    """Starts servers in a folder of their own; `end` ends them all."""

    def __init__(self, make_folder: Callable[[str], Path]) -> None:
        self._make_folder = make_folder
        self._started: list[Daemon] = []

    def end(self) -> None:
        for daemon in reversed(self._started):
            daemon.end()

    def knot(
        self,
        zones: dict[str, str],
        *,
        signed: frozenset[str] = frozenset(),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> Daemon:
        """Serve zones, given as texts of zone files; those in `signed` with DNSSEC."""
        folder, port = self._make_folder("knot"), port or free_port()
        (folder / "db").mkdir()
        stanzas = []
        for zone, text in zones.items():
            (folder / f"{zone}.zone").write_text(text)
            signing = "\n    dnssec-signing: on" if zone in signed else ""
            stanzas.append(f"  - domain: {zone}\n    file: {zone}.zone{signing}\n")
        config = (
            f"server:\n    rundir: {folder}\n    listen: {host}@{port}\n"
            "    tcp-max-clients: 64\n    background-workers: 1\n    udp-workers: 1\n"
            "    tcp-workers: 1\n"
            f"database:\n    storage: {folder}/db\n    journal-db-max-size: 16M\n"
            "    kasp-db-max-size: 16M\n    timer-db-max-size: 16M\n"
            "log:\n  - target: stderr\n    any: notice\n"
            f"template:\n  - id: default\n    storage: {folder}\n    zonefile-sync: -1\n"
            "    zonefile-load: whole\n    journal-content: none\n"
            f"zone:\n{''.join(stanzas)}"
        )
        command = [need("knotd"), "-c", self._write(folder, "knot.conf", config)]
        return self._start(folder, command, port, *zones, host=host)

    def nsd(self, zones: dict[str, str]) -> Daemon:
        """Serve zones, given as texts of zone files."""
        folder, port = self._make_folder("nsd"), free_port()
        stanzas = []
        for zone, text in zones.items():
            (folder / f"{zone}.zone").write_text(text)
            stanzas.append(f"zone:\n  name: {zone}\n  zonefile: {zone}.zone\n")
        config = (
            f'server:\n  ip-address: 127.0.0.1@{port}\n  zonesdir: "{folder}"\n  username: ""\n'
            f'  database: ""\n  pidfile: "{folder}/pid"\n  xfrdfile: "{folder}/xfrd"\n'
            f'  xfrdir: "{folder}"\n  zonelistfile: "{folder}/zones"\n  server-count: 1\n'
            f"remote-control:\n  control-enable: no\n{''.join(stanzas)}"
        )
        command = [need("nsd"), "-d", "-c", self._write(folder, "nsd.conf", config)]
        return self._start(folder, command, port, *zones)

    def unbound(self, options: str = "", clauses: str = "", *, port: int = 0) -> Daemon:
        """Resolve; `options` go into the server clause, `clauses` behind it."""
        folder, port = self._make_folder("unbound"), port or free_port()
        options = "".join(f"  {line.strip()}\n" for line in options.strip().splitlines())
        config = (
            f"server:\n  interface: 127.0.0.1@{port}\n  do-daemonize: no\n  chroot: ''\n"
            f'  username: ""\n  directory: "{folder}"\n  pidfile: ""\n  use-syslog: no\n'
            '  logfile: ""\n  do-not-query-localhost: no\n  num-threads: 1\n  msg-cache-size: 4m\n'
            f"  rrset-cache-size: 4m\n{options}remote-control:\n  control-enable: no\n{clauses}"
        )
        command = [need("unbound"), "-d", "-c", self._write(folder, "unbound.conf", config)]
        return self._start(folder, command, port)

    def dnsmasq(self, config: str, *, port: int = 0) -> Daemon:
        """Forward as the configuration says."""
        folder, port = self._make_folder("dnsmasq"), port or free_port()
        config = (
            f"port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n"
            f"pid-file={folder}/pid\nlocal=/invalid/\n{config}"
        )
        path = self._write(folder, "dnsmasq.conf", config)
        command = [need("dnsmasq"), "--keep-in-foreground", f"--conf-file={path}"]
        return self._start(folder, [*command, "--log-facility=-"], port)

    def bind(self, options: str, clauses: str) -> Daemon:
        """Resolve with BIND; `options` go into `options`, `clauses` behind it."""
        folder, port = self._make_folder("bind"), free_port()
        config = (
            f'options {{\n  directory "{folder}";\n  pid-file none;\n  recursion yes;\n'
            f"  listen-on port {port} {{ 127.0.0.1; }};\n  listen-on-v6 {{ none; }};\n"
            f"  dnssec-validation yes;\n{options}\n}};\ncontrols {{ }};\n{clauses}"
        )
        path = self._write(folder, "named.conf", config)
        command = [need("named"), "-g", "-n", "1", "-c", path]
        return self._start(folder, command, port, "10.in-addr.arpa")  # a zone that it has itself

    def kresd(self, config: str) -> Daemon:
        """Resolve with Knot Resolver."""
        folder, port = self._make_folder("kresd"), free_port()
        config = f"net.listen('127.0.0.1', {port})\ncache.size = 10 * MB\n{config}"
        path = self._write(folder, "kresd.conf", config)
        return self._start(folder, [need("kresd"), "-n", "-c", path, str(folder)], port)

    def pdns_recursor(self, config: str, lua: str) -> Daemon:
        """Resolve with PowerDNS Recursor; `lua` is its file of trust anchors."""
        folder, port = self._make_folder("recursor"), free_port()
        config = (
            f"local-address=127.0.0.1\nlocal-port={port}\nsocket-dir={folder}\ndaemon=no\n"
            f"threads=1\nhint-file=no\nlua-config-file={self._write(folder, 'lua', lua)}\n{config}"
        )
        self._write(folder, "recursor.conf", config)
        return self._start(folder, [need("pdns_recursor"), f"--config-dir={folder}"], port)

    def dnsdist(self, config: str) -> Daemon:
        """Balance as the configuration says."""
        folder, port = self._make_folder("dnsdist"), free_port()
        own = (
            f'setLocal("127.0.0.1:{port}")\naddAction("invalid.", RCodeAction(DNSRCode.NXDOMAIN))\n'
        )
        path = self._write(folder, "dnsdist.conf", own + config)
        command = [need("dnsdist"), "--supervised", "--disable-syslog", "-C", path]
        return self._start(folder, command, port)

    def coredns(self, corefile: str, *, port: int = 0) -> Daemon:
        """Serve a Corefile, in which PORT stands for the port."""
        folder, port = self._make_folder("coredns"), port or free_port()
        path = self._write(folder, "Corefile", corefile.replace("PORT", str(port)))
        return self._start(folder, [need("coredns"), "-conf", path], port)

    def _write(self, folder: Path, name: str, text: str) -> str:
        (folder / name).write_text(text)
        return str(folder / name)

    def _start(
        self, folder: Path, command: list[str], port: int, *zones: str, host: str = "127.0.0.1"
    ) -> Daemon:
        """Start a server and wait until it has its zones, or answers at all."""
        daemon = Daemon(folder, command, (host, port))
        self._started.append(daemon)
        return daemon.wait_ready(*(zones or ["ready.invalid"]), strict=bool(zones))


@contextmanager
def running(make_folder: Callable[[str], Path]) -> Iterator[Servers]:
    """End all that was started, in whatever way it goes."""
    servers = Servers(make_folder)
    try:
        yield servers
    finally:
        servers.end()


class Scripted:
    """An upstream in threads, over UDP and TCP on one port: a function says what it replies."""

    def __init__(self, reply: Callable[[bytes], bytes]) -> None:
        class OverUdp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                octets, sock = self.request
                sock.sendto(reply(octets), self.client_address)

        class OverTcp(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while size := self.rfile.read(2):
                    octets = reply(self.rfile.read(int.from_bytes(size, "big")))
                    self.wfile.write(len(octets).to_bytes(2, "big") + octets)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        port = free_port()
        self.text = f"127.0.0.1:{port}"
        self._servers = [
            socketserver.ThreadingUDPServer(("127.0.0.1", port), OverUdp),
            socketserver.ThreadingTCPServer(("127.0.0.1", port), OverTcp),
        ]
        for server in self._servers:
            server.daemon_threads = True
            server.block_on_close = False
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class Silent:
    """An upstream that takes every question and says nothing; counts nothing, reads nothing."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))

    @property
    def text(self) -> str:
        return f"127.0.0.1:{self._sock.getsockname()[1]}"

    def close(self) -> None:
        self._sock.close()


def received(probes: int) -> float:
    """Return how many queries an instance was asked so far, by its metrics."""
    url = f"http://127.0.0.1:{probes}/metrics"
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as response:
        text = response.read().decode()
    found = re.search(
        r'^mcsdns_requests_received_total\{transport="udp"\} (\S+)', text, re.MULTILINE
    )
    return float(found[1]) if found else 0.0
