"""`make demo`: serve the examples, ask real questions, show the answers, go on serving.

With DEMO_SECONDS it ends by itself after that many seconds.
"""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

MANIFESTS = "examples/manifests"
HOST, PORT = "127.0.0.1", 1053
QUESTIONS = (
    ("rebel-base.default.svc.clusterset.local A", "one address for all clusters"),
    ("holocron.archives.svc.clusterset.local A", "headless: every ready pod of every cluster"),
    ("_redis._tcp.holocron.archives.svc.clusterset.local SRV", "ports, with a name for each pod"),
    ("holocron-0.cluster2.holocron.archives.svc.clusterset.local A", "one pod of one cluster"),
    ("cluster2.rebel-base.default.svc.clusterset.local A", "the per-cluster form is refused"),
)
MISTYPED = "rebel-bse.default.svc.clusterset.local"


def main() -> int:
    """Run the demo from the root of the project."""
    os.chdir(Path(__file__).resolve().parent.parent)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    address = f"{HOST}:{_free_port()}"
    _show(f"mcsdns serve --manifests {MANIFESTS} --listen {address}")
    command = [sys.executable, "-m", "mcsdns", "serve", "--manifests", MANIFESTS]
    with subprocess.Popen(
        [*command, "--listen", address, "--log-level", "warning"],
        stdout=subprocess.PIPE,
        process_group=0,  # else Ctrl-C is a first signal, and ours a second one that cuts its stop
    ) as server:
        try:
            ready = server.stdout.readline().decode() if server.stdout else ""
            if not ready.startswith("ready: "):
                return server.wait() or 1
            print(ready, end="", flush=True)
            _ask_everything(address)
            _serve_on(server, address)
        except KeyboardInterrupt:
            print()
        finally:
            server.send_signal(signal.SIGINT)  # as Ctrl-C: SIGTERM would answer on for a while
        return server.wait()


def _free_port() -> int:
    """Take the usual port where it is free for UDP and TCP, else any that is."""
    for port in (PORT, *[0] * 10):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            contextlib.suppress(OSError),
        ):
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            udp.bind((HOST, port))
            found = int(udp.getsockname()[1])
            tcp.bind((HOST, found))
            return found
        if port == PORT:
            print(f"# port {PORT} is in use: this is on another one")
    raise SystemExit("no free port on 127.0.0.1")


def _ask_everything(address: str) -> None:
    for question, why in QUESTIONS:
        print(f"\n# {why}")
        short = "" if "refused" in why else " --short"
        _run(f"mcsdns query {question} --server {address}{short}")
    print("\n# and why a name does not resolve")
    _run(f"mcsdns explain {MISTYPED} --manifests {MANIFESTS}")


def _run(command: str) -> None:
    _show(command)
    words = shlex.split(command)
    subprocess.run([sys.executable, "-m", *words], check=False, timeout=60)


def _show(command: str) -> None:
    print(f"$ {command}", flush=True)


def _serve_on(server: subprocess.Popen[bytes], address: str) -> None:
    command = Path(sys.executable).with_name("mcsdns")
    if command.is_relative_to(Path.cwd()):
        command = command.relative_to(Path.cwd())
    host, _, port = address.rpartition(":")
    ask = f"dig @{host} -p {port}" if shutil.which("dig") else f"{command} query --server {address}"
    print(f"\nAsk it yourself (mcsdns is {command}); examples/README.md has more questions:")
    for question, _ in QUESTIONS[:3]:
        print(f"  {ask} {question}")
    seconds = os.environ.get("DEMO_SECONDS")
    if seconds:
        print(f"\nServing for {seconds} seconds more.", flush=True)
        time.sleep(float(seconds))
        return
    print("\nThe status page is on http://127.0.0.1:8053/.")
    print(f"Serving on {address}. Edit a file in {MANIFESTS} and ask again; Ctrl-C ends.")
    sys.stdout.flush()
    server.wait()


if __name__ == "__main__":
    sys.exit(main())
