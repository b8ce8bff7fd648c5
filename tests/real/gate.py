"""A way to the API server that can be cut while both ends live on."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.apiserver.process import ApiServer


class Gate:
    """Passes connections on to a port; while it is cut there are none, and new ones are refused.

    Attributes:
        received: octets that came from there so far.
        held: set once `hold_after` holds something back.
    """

    def __init__(self, apiserver: ApiServer) -> None:
        self.received = 0
        self.held = threading.Event()
        self._apiserver = apiserver
        self._hold_after: int | None = None
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    def cut(self) -> None:
        """Break every connection and take no more."""
        self.release()
        with self._lock:
            _end(self._listener)
            for each in self._open:
                _end(each)
            self._open.clear()

    def mend(self) -> None:
        """Take connections again."""
        self._listener = self._listen(self.port)

    def hold_after(self, octets: int) -> None:
        """Hold back what comes from there on a connection after so many octets."""
        self._hold_after = octets

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Hold back all that comes from there meanwhile: what happens in it is told at once."""
        self.hold_after(0)
        yield
        self.release()

    def release(self) -> None:
        """Let go what was held back, and hold no more."""
        self._hold_after = None
        self._released.set()

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig that leads through here."""
        path = self._apiserver.kubeconfig.with_name(f"kubeconfig-{self.port}")
        text = self._apiserver.kubeconfig.read_text()
        path.write_text(text.replace(self._apiserver.url, f"https://127.0.0.1:{self.port}"))
        return path

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._join(listener.accept()[0])

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._apiserver.port))
        except OSError:
            near.close()
            return
        with self._lock:
            self._open |= {near, far}
        for ends in ((near, far, False), (far, near, True)):
            threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_reply: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while octets := source.recv(65536):
                passed += len(octets)
                if is_reply:
                    self.received += len(octets)
                    self._hold(passed)
                target.sendall(octets)
        with self._lock:
            for each in (source, target):
                _end(each)
                self._open.discard(each)

    def _hold(self, passed: int) -> None:
        if self._hold_after is not None and passed > self._hold_after:
            self.held.set()
            self._released.wait()


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
