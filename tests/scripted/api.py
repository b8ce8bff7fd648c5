"""`FakeApi`: the server itself; what it can do is listed in the package's docstring."""

import asyncio
import json
import socket
import weakref
from pathlib import Path
from types import TracebackType
from typing import Literal

from aiohttp import web

from tests.scripted.asked import Asked
from tests.scripted.faults import Action, Fault
from tests.scripted.history import SERVICE_IMPORT, Change, History, Plain
from tests.scripted.pages import Pages
from tests.scripted.runner import runner_of
from tests.scripted.serving import Serving
from tests.scripted.watches import Watch
from tests.scripted.wire import KINDS

Grant = tuple[str, str, str]
"""Verb, resource, namespace; an empty namespace grants the verb in the whole cluster."""


class FakeApi:
    """A scripted Kubernetes API server in the event loop of the test.

    Attributes:
        requests: everything that was asked, oldest first.
        watches: the open watches.
        calm: set by `clear_faults`, for those that hang.
        versions: which API versions serve `serviceimports`, preferred one first.
        listed_versions: versions that the group lists beside these (for other CRDs of it).
        plain_404: whether a 404 is plain text, as for paths that no handler knows.
        streaming_lists: whether initial events are sent: "on", 422, or an ERROR event with 500.
        expired_as, expired_reason: the form of 410 for a watch from below the floor.
        future_versions: the form of 504 for a version still to come; "hold" keeps the watch open.
        retry_after_s: what a 504 for a version still to come asks for; the real one says 1.
        bookmark_interval_s: the time between bookmarks; None: only on demand.
        watch_timeout_s: replaces the `timeoutSeconds` of the requests.
        token: the bearer token that is taken; None takes everybody.
        grants: who may what; all at first.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.history = History()
        self.requests: list[Asked] = []
        self.watches: list[Watch] = []
        self.versions: tuple[str, ...] = ("v1beta1",)
        self.listed_versions: tuple[str, ...] = ()
        self.plain_404 = False
        self.streaming_lists: Literal["on", "422", "error"] = "on"
        self.expired_as: Literal["status", "event"] = "event"
        self.expired_reason = "Expired"
        self.future_versions: Literal["status", "event", "hold"] = "status"
        self.retry_after_s: float = 1
        self.bookmark_interval_s: float | None = None
        self.watch_timeout_s: float | None = None
        self.token: str | None = None
        self.grants: set[Grant] = set()
        for resource in KINDS:
            self.grant(resource)
        self.calm = asyncio.Event()
        self._faults: list[Fault] = []
        self._pages = Pages(self.history)
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._host = host
        self._port = 0
        self._socket: socket.socket | None = None

    # Objects

    def put(self, thing: Plain) -> Change:
        """Create or change an object (with its `kind`); every watch that sees it is told."""
        return self._tell(self.history.put(thing))

    def delete(self, kind: str, namespace: str, name: str) -> Change | None:
        """Delete an object; None where there is none."""
        change = self.history.delete((kind, namespace, name))
        return self._tell(change) if change else None

    def objects(self, kind: str, namespace: str = "") -> list[Plain]:
        """The objects of a kind, in the order of lists."""
        return self.history.objects(kind, namespace)

    @property
    def version(self) -> int:
        """The resource version in force."""
        return self.history.version

    def compact(self) -> None:
        """Forget all versions before the one in force; pages of older lists expire."""
        self.history.compact()
        self._pages.expire(self.version)

    def expire_pages(self) -> None:
        """Let every `continue` token that is out expire."""
        self._pages.expire()

    def restore(self, version: int, *, end_watches: bool = True) -> None:
        """Put objects and counter back, as an etcd restored from a backup does."""
        self.history.restore(version)
        self.expire_pages()
        if end_watches:
            self.end_watches()

    def serve(self, *versions: str, end_watches: bool = True) -> None:
        """Say which versions serve `serviceimports`; none: the CRD is gone."""
        self.versions = versions
        if end_watches:
            self.end_watches(SERVICE_IMPORT)

    def _tell(self, change: Change) -> Change:
        for watch in self.watches:
            watch.tell(change)
        return change

    # Permissions

    def grant(self, resource: str, namespace: str = "", verbs: str = "list watch") -> None:
        """Allow verbs on a resource, cluster-wide or in a namespace."""
        self.grants |= {(verb, resource, namespace) for verb in verbs.split()}

    def revoke(self, resource: str, namespace: str = "", verbs: str = "list watch") -> None:
        """Take it back; open watches stay, as with the real one."""
        self.grants -= {(verb, resource, namespace) for verb in verbs.split()}

    # Faults

    def fault(
        self,
        action: Action,
        of: str = "",
        resource: str = "",
        *,
        namespace: str | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Put a fault on the next requests that fit; the oldest one that fits is used."""
        added = Fault(action, of, resource, namespace, times)
        self._faults.append(added)
        return added

    def take_fault(self, query: Asked) -> Action | None:
        """Use up one fault on a request."""
        for fault in self._faults:
            if fault.fits(query.nature, query.resource, query.namespace):
                fault.used += 1
                return fault.action
        return None

    def clear_faults(self) -> None:
        """Take all faults off; knobs and grants stay as they are.

        Silent watches speak, requests that hang are reset.
        """
        self._faults.clear()
        self.calm.set()
        self.calm = asyncio.Event()
        for watch in self.watches:
            watch.speak()

    def watches_of(self, kind: str = "") -> list[Watch]:
        """The open watches of a kind (none given: all), in a list of their own."""
        return [watch for watch in self.watches if kind in ("", watch.view.kind)]

    def end_watches(self, kind: str = "") -> None:
        """End watches cleanly."""
        for watch in self.watches_of(kind):
            watch.end()

    def expire_watches(self, kind: str = "", reason: str = "Expired", then: bytes = b"") -> None:
        """410 in open watches; `then` comes after it in the same piece."""
        for watch in self.watches_of(kind):
            watch.expire(reason, then)

    def bookmark(self, version: int | None = None) -> None:
        """Send a bookmark now to every watch that wants them."""
        for watch in self.watches:
            if watch.wants_bookmarks:
                watch.bookmark(self.version if version is None else version)

    def reset_connections(self) -> None:
        """Reset every connection, idle ones too."""
        for transport in list(self._transports):
            transport.abort()

    # The listening socket

    @property
    def url(self) -> str:
        """Where it listens; the port stays the same over `refuse` and `accept`."""
        return f"http://{self._host}:{self._port}"

    async def __aenter__(self) -> "FakeApi":
        self._serving = Serving(self, self._pages)
        self._runner = await runner_of(self._handle)
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear_faults()
        self.end_watches()
        await self.refuse()
        await self._runner.cleanup()

    async def accept(self) -> None:
        """Listen, again on the same port; does nothing while it listens."""
        if self._socket is not None:
            return
        self._socket = socket.create_server((self._host, self._port))
        self._port = self._socket.getsockname()[1]
        await web.SockSite(self._runner, self._socket).start()

    async def refuse(self) -> None:
        """Close the listening socket and reset all connections."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        for _ in range(3):
            await asyncio.sleep(0)  # asyncio cannot close while it is taking a connection
        for site in list(self._runner.sites):
            await site.stop()
        self._socket = None
        self.reset_connections()

    def write_kubeconfig(self, path: Path, token: str = "anybody") -> Path:
        """Write a kubeconfig that leads here."""
        user = {"token": token}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "scripted", "cluster": {"server": self.url}}],
            "users": [{"name": "tester", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "scripted", "user": "tester"}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(config))
        return path

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if isinstance(request.transport, asyncio.Transport):
            self._transports.add(request.transport)
        return await self._serving.handle(request)
