"""Servers for tests: real sockets on loopback, their event loop in a thread beside the test."""

import contextlib
from collections import Counter
from collections.abc import Iterator

import anyio.from_thread
import anyio.lowlevel
import msgspec

from mcsdns import config
from mcsdns.app import process
from mcsdns.diagnostics.client import RemoteServer, server_from_text
from mcsdns.sources.manifests.source import ManifestSource
from mcsdns.stats import ReplyKind


@contextlib.contextmanager
def serving() -> Iterator["Starter"]:
    """Give a starter of servers; all of them end with the block."""
    with anyio.from_thread.start_blocking_portal() as portal:
        starter = Starter(portal)
        try:
            yield starter
        finally:
            portal.call(starter.close)


class Starter:
    """Starts servers in the loop of a portal."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal) -> None:
        self._portal = portal
        self._servers: list[process.Server] = []

    def start(self, settings: config.Settings) -> RemoteServer:
        """Serve from the manifests of the settings; return a client once everything is read."""
        settings = msgspec.structs.replace(settings, listen=["127.0.0.1:0"])
        address = self._portal.call(self._start, settings)
        return RemoteServer(*server_from_text(address))

    def counts(self) -> Counter[tuple[str, str, str, str, ReplyKind]]:
        """The replies of all servers so far: transport, zone, type, rcode and kind."""
        return self._portal.call(self._counts)

    async def _counts(self) -> Counter[tuple[str, str, str, str, ReplyKind]]:
        found: Counter[tuple[str, str, str, str, ReplyKind]] = Counter()
        for server in self._servers:
            for each in server.snapshot().replies:
                found[each.transport, each.zone, each.qtype, each.rcode, each.kind] += each.number
        return found

    async def _start(self, settings: config.Settings) -> str:
        server = process.Server(settings)
        self._servers.append(server)
        await server.start()
        source = ManifestSource(settings.manifests, server.updates, profile=settings.slices)
        await source.load()
        await server.updates.synced.wait()
        return server.addresses[0]

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        await anyio.lowlevel.checkpoint()  # connections write what they have
