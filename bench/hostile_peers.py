"""Whom a server asks, and what these do to it: an upstream, and an API server.

Each is a process on the load core like the attackers, but not at their low priority: who waits for
an upstream is not kept waiting by what shares its core.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from bench.hostile import apart
from bench.load import HOST
from bench.servers import free_port
from bench.world import manifests_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bench.world import World

GOOD = b"\4good"
LARGE = b"\5large"
GROUP = "multicluster.x-k8s.io"
VERSION = f"{GROUP}/v1beta1"
BAD_AT_ONCE, BAD_EVERY_S, BAD_NAMES = 400, 0.05, 20_000
PIECE = 1 << 20
GZIP_MB = 800
HOT = "/hot"
"""Below this path all is as in an attack: for who only takes it."""


@contextlib.contextmanager
def upstream(core: int) -> Iterator[int]:
    """Answer `good.`; of `large.` have 64 KB, over TCP; be silent on the rest."""
    port = free_port()
    with apart(core, _upstream, port, nice=0) as ours:
        ours.recv()
        yield port


class HostileApi:
    """An API server that is well-behaved until it is told what to do."""

    def __init__(self, port: int, pipe: Connection) -> None:
        """Take the pipe to its process."""
        self._port = port
        self._pipe = pipe

    def turn(self, mode: str) -> None:
        """Behave like this from now on; connections that are open end where need be."""
        self._pipe.send(mode)

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here."""
        cluster = {"server": f"http://{HOST}:{self._port}"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "hostile", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": "anybody"}}],
            "contexts": [{"name": "one", "context": {"cluster": "hostile", "user": "user"}}],
            "current-context": "one",
        }
        path.write_bytes(msgspec.json.encode(config))
        return path

    def discard(self, mode: str) -> str:
        """Return the request by which one only takes what a mode would send."""
        return f"GET {HOT}/{mode}/serviceimports?watch=true HTTP/1.1\r\nHost: a\r\n\r\n"

    @property
    def port(self) -> int:
        """Where it listens on the loopback address."""
        return self._port


@contextlib.contextmanager
def hostile_api(core: int, world: World) -> Iterator[HostileApi]:
    """Start an API server with the objects of a world."""
    port = free_port()
    with apart(core, _api, port, world, nice=0) as ours:
        ours.recv()
        yield HostileApi(port, ours)


def _upstream(pipe: Connection, port: int) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(_Udp, local_addr=(HOST, port))
        await asyncio.start_server(_over_tcp, HOST, port)
        pipe.send("ready")
        await asyncio.Event().wait()

    asyncio.run(run())


class _Udp(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        question = data[12 : data.index(0, 12) + 5]
        if question.startswith(GOOD):
            record = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4" + socket.inet_aton("192.0.2.1")
            reply = data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record
            self._transport.sendto(reply, peer)
        elif question.startswith(LARGE):
            reply = data[:2] + b"\x83\x80\0\1\0\0\0\0\0\0" + question
            self._transport.sendto(reply, peer)


async def _over_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    record = b"\xc0\x0c\0\x10\0\1\0\0\1\x2c\1\0\xff" + b"x" * 255
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            size = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(size)
            question = data[12 : data.index(0, 12) + 5]
            count = (65_000 - len(question)) // len(record)
            head = data[:2] + b"\x81\x80\0\1" + count.to_bytes(2, "big") + bytes(4)
            message = head + question + record * count
            writer.write(len(message).to_bytes(2, "big") + message)
            await writer.drain()
    writer.close()


def _api(pipe: Connection, port: int, world: World) -> None:
    asyncio.run(_Api(world).run(pipe, port))


class _Api:
    """The process's own."""

    def __init__(self, world: World) -> None:
        objects = [each for service in world.services for each in manifests_of(service)]
        self._objects = {
            "serviceimports": [each for each in objects if each["kind"] == "ServiceImport"],
            "endpointslices": [each for each in objects if each["kind"] != "ServiceImport"],
        }
        self._mode = ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._zeros = b""

    async def run(self, pipe: Connection, port: int) -> None:
        packer = zlib.compressobj(9, wbits=31)
        self._zeros = b"".join(packer.compress(bytes([32]) * PIECE) for _ in range(GZIP_MB))
        self._zeros += packer.flush()
        await asyncio.start_server(self._serve, HOST, port, limit=1 << 20)
        asyncio.get_running_loop().add_reader(pipe.fileno(), self._turn, pipe)
        pipe.send("ready")
        await asyncio.Event().wait()

    def _turn(self, pipe: Connection) -> None:
        self._mode = pipe.recv()
        if self._mode != "objects":  # watches go on there
            for writer in list(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                mode = path.split("/")[2] if path.startswith(HOT) else self._mode
                await self._respond(writer, path, mode)
        self._writers.discard(writer)
        writer.close()

    async def _respond(self, writer: asyncio.StreamWriter, path: str, mode: str) -> None:
        if mode == "endless":
            await self._begin(writer)
            while True:
                await self._piece(writer, bytes([32]) * PIECE)
        if mode == "gzip":
            await self._whole(writer, self._zeros, "Content-Encoding: gzip\r\n")
            return
        if path.startswith(f"/apis/{GROUP}") and "/serviceimports" not in path:
            resource = {"name": "serviceimports", "kind": "ServiceImport", "namespaced": True}
            version = {"groupVersion": VERSION, "version": VERSION.partition("/")[2]}
            group = {"kind": "APIGroup", "versions": [version], "preferredVersion": version}
            body = {**group, "resources": [{**resource, "verbs": ["list", "watch"]}]}
            await self._whole(writer, msgspec.json.encode(body))
            return
        kind = "serviceimports" if "serviceimports" in path else "endpointslices"
        if "watch=true" not in path:
            body = {"metadata": {"resourceVersion": "1000000"}, "items": self._objects[kind]}
            await self._whole(writer, msgspec.json.encode(body))
            return
        await self._watch(writer, kind, mode, initial="sendInitialEvents" in path)

    async def _watch(
        self, writer: asyncio.StreamWriter, kind: str, mode: str, *, initial: bool
    ) -> None:
        await self._begin(writer)
        if initial:
            lines = [{"type": "ADDED", "object": each} for each in self._objects[kind]]
            lines.append(_end_of_list(kind))
            await self._piece(writer, b"".join(msgspec.json.encode(each) + b"\n" for each in lines))
        sent = 0
        while True:
            if "objects" in (mode, self._mode) and kind == "serviceimports":
                numbers = range(sent, sent + BAD_AT_ONCE)
                await self._piece(writer, b"".join(map(_bad_object, numbers)))
                sent += BAD_AT_ONCE
            await asyncio.sleep(BAD_EVERY_S)

    async def _begin(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        await writer.drain()

    async def _piece(self, writer: asyncio.StreamWriter, octets: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(octets), octets))
        await writer.drain()

    async def _whole(self, writer: asyncio.StreamWriter, body: bytes, more: str = "") -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{more}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


def _end_of_list(kind: str) -> dict[str, Any]:
    names = {
        "serviceimports": (VERSION, "ServiceImport"),
        "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    }
    api_version, of_kind = names[kind]
    metadata = {"resourceVersion": "1000000", "annotations": {"k8s.io/initial-events-end": "true"}}
    bookmark = {"apiVersion": api_version, "kind": of_kind, "metadata": metadata}
    return {"type": "BOOKMARK", "object": bookmark}


def _bad_object(number: int) -> bytes:
    """Return a line of a watch with an import whose addresses are none; the names come again."""
    metadata = {
        "namespace": "ns-000",
        "name": f"bad-{number % BAD_NAMES}",
        "uid": f"bad-{number % BAD_NAMES}",
        "resourceVersion": str(2_000_000 + number),
    }
    spec = {"type": "ClusterSetIP", "ips": ["999.1.1.1", "evil\n\x1b[31m"], "ports": []}
    thing = {"apiVersion": VERSION, "kind": "ServiceImport", "metadata": metadata, "spec": spec}
    kind = "MODIFIED" if number >= BAD_NAMES else "ADDED"
    return msgspec.json.encode({"type": kind, "object": thing}) + b"\n"
