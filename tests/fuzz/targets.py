"""What is tried: for each reader its seeds, and what holds of it whatever it gets.

A target raises for a finding. What a target may raise by contract it catches itself, so that any
other error is one.
"""

import asyncio
import atexit
import contextlib
import functools
import hashlib
import itertools
import json
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import msgspec

from mcsdns import config, yaml_text
from mcsdns import dns as wire
from mcsdns.diagnostics.cases import form
from mcsdns.dns import Query
from mcsdns.dns import name as names
from mcsdns.dns.message_reader import Message, read_reply
from mcsdns.dns.reader import Cursor
from mcsdns.errors import ConfigError, MessageError, ObjectError, ReplyError
from mcsdns.forward import resolv_conf
from mcsdns.forward.cache import Cache, key_of
from mcsdns.forward.cache import Settings as CacheSettings
from mcsdns.forward.render import SILENT, render
from mcsdns.forward.reply import UpstreamReply
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.events import Apply, Delete
from mcsdns.objects.model import EndpointSlice, Kind, Object
from mcsdns.server import acl, tcp
from mcsdns.server.handler import Handler
from mcsdns.server.rate_limit import RateLimiter
from mcsdns.server.reply_options import Cookies, ReplyOptions
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources import snapshot
from mcsdns.sources.kubernetes import codec
from mcsdns.sources.kubernetes.reflector import Shown
from mcsdns.sources.manifests import documents
from mcsdns.stats import LimitedReplies, ReplyKind
from mcsdns.yaml_text import Document, is_mapping
from tests.fuzz import dnspython
from tests.paths import CASES, EXAMPLES
from tests.worlds import ZONE, endpoint_slice, handler_of, service_import, world_of

MOST_BYTES: Final = 4096


class Target(NamedTuple):
    """One reader; `run` raises for a finding. `form` reads and writes an input as plain values."""

    name: str
    seeds: Callable[[], Iterable[bytes]]
    run: Callable[[bytes], object]
    form: tuple[Callable[[bytes], Any], Callable[[Any], bytes]] | None = None


HEADLESS: Final = service_import("db")
WORLD: Final = world_of(
    [
        service_import("web", ips=["10.0.0.1"], ports=[("http", 80)]),
        HEADLESS,
        endpoint_slice("db", "eu", ["10.1.0.1"]),
    ]
)
"""No name has two records of one type, so that answers do not turn."""


# Requests.


def requests() -> Iterator[bytes]:
    """The questions of all case files, and some with options, signed, and cached by the second."""
    for path in form.find_files([str(CASES)]):
        for row in form.load(path).rows:
            yield row.request.encode(row.line)
    name = names.wire_from_text(f"web.shop.svc.{ZONE}")
    cookie, nsid = b"\0\x0a\0\x08clientco", b"\0\3\0\0"
    for options in (cookie, cookie[:3] + b"\x18" + cookie[4:] + bytes(16), nsid, nsid + cookie):
        yield wire.write_query(1, name, 1, opt=wire.write_opt(options=options))
    tsig = b"\0\0\xfa\0\xff\0\0\0\0\0\x1c\x0bhmac-sha256\0" + bytes(16)
    yield wire.write_query(1, name, 1, opt=tsig)


@functools.cache
def handlers() -> tuple[Handler, Handler]:
    return handler_of(WORLD), handler_of(WORLD, tcp=True)


class Localhost:
    """A client to whom nothing comes later."""

    def address(self) -> bytes:
        return b"\x7f\0\0\1"

    def detach(self) -> Callable[[bytes], None]:
        raise AssertionError


@functools.cache
def limited() -> tuple[Handler, RateLimiter]:
    """A handler that tells its name and gives cookies, and a limit that every reply is past."""
    handler = handler_of(WORLD)
    handler.reply_options = ReplyOptions("pod", Cookies("", lambda: 0.0))
    return handler, RateLimiter(1, 1, handler.reply_options, lambda: 0.0, LimitedReplies())


def query(octets: bytes) -> None:
    """A request gets no reply or one that fits it, and is read as dnspython reads it."""
    dnspython.compare_query(octets)
    for handler, limit in zip(handlers(), (1232, 65535), strict=True):
        seen = check_header(octets, handler.reply_to(octets), limit)
        if seen is not None:
            check_reply(octets, seen)
        assert not handler.statistics().failures
    handler, limiter = limited()
    reply = handler.reply_to(octets, Localhost())
    check_header(octets, reply, 1232)
    if reply is not None:
        check_header(octets, limiter.limit(octets, reply, Localhost().address()), 1232)
    assert not handler.statistics().failures


def check_header(octets: bytes, reply: bytes | None, limit: int) -> Message | None:
    assert (reply is None) is (len(octets) < 12 or octets[2] >= 0x80)
    if reply is None:
        return None
    assert reply[:2] == octets[:2]
    assert (reply[2] ^ octets[2]) & 0xF9 == 0x80, "QR, and opcode and RD as they were"
    assert len(reply) <= limit
    return read_reply(reply)


def check_reply(octets: bytes, seen: Message) -> None:
    try:
        asked = wire.read_query(octets)
    except MessageError as error:
        asked, rcode = None, error.rcode
    if asked is None:
        assert (seen.rcode, seen.answer, seen.authority, seen.additional) == (rcode, (), (), ())
        return
    question = seen.question
    assert question is not None
    qtype_and_class = struct.pack("!HH", question.qtype, question.qclass)
    assert question.name + qtype_and_class == asked.question
    assert (seen.opt is not None) is (asked.edns is not None)


# TCP.


def streams() -> Iterator[bytes]:
    """Three framed requests each, in pieces of this and that size."""
    framed = [struct.pack("!H", len(each)) + each for each in requests()]
    for number in range(0, len(framed) - 2, 3):
        yield bytes([number % 256]) + b"".join(framed[number : number + 3])


class TcpServer:
    """A listener in a loop that turns only while an input is tried."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        sock = tcp.bind("127.0.0.1", 0)
        self._address = sock.getsockname()
        self._listener = tcp.TcpListener(
            [sock], handler_of(WORLD, tcp=True), tcp.TcpSettings(), self._loop.time
        )
        self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self._listener.start()

    def replies_to(self, stream: bytes, piece_bytes: int) -> bytes:
        return self._loop.run_until_complete(self._replies_to(stream, piece_bytes))

    async def _replies_to(self, stream: bytes, piece_bytes: int) -> bytes:
        received = b""
        with socket.socket() as sock:
            sock.setblocking(False)
            await self._loop.sock_connect(sock, self._address)
            with contextlib.suppress(OSError):  # once the framing is lost nothing is taken
                for at in range(0, len(stream), piece_bytes):
                    sock.send(stream[at : at + piece_bytes])
                    await asyncio.sleep(0)
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while octets := await self._loop.sock_recv(sock, 1 << 16):
                    received += octets
        assert not self._listener.handler.statistics().failures
        return received


@functools.cache
def tcp_server() -> TcpServer:
    return TcpServer()


def stream(octets: bytes) -> None:
    """A stream in pieces gets the replies that its messages get one by one, up to a bad length."""
    piece_bytes, octets = max(1 + octets[0], len(octets) >> 6) if octets else 1, octets[1:]
    handler = handlers()[1]
    expected = b""
    at = 0
    while at + 2 <= len(octets):
        size = octets[at] << 8 | octets[at + 1]
        message = octets[at + 2 : at + 2 + size]
        at += 2 + size
        if size < 12 or len(message) < size:
            break
        reply = handler.reply_to(message)
        if reply:
            expected += struct.pack("!H", len(reply)) + reply
    assert tcp_server().replies_to(octets, piece_bytes) == expected


# Upstreams' replies.

_NAMES: Final = (b"\3www\7example\0", b"\1a\xc0\x10", b"\xc0\x0c", b"\2ns\xc0\x10", b"\0")
_SOA: Final = b"\2ns\xc0\x10\1h\xc0\x10" + struct.pack("!5I", 1, 2, 3, 4, 60)
_RDATA: Final = {
    1: b"\12\0\0\1",
    2: b"\2ns\xc0\x10",
    5: b"\1a\xc0\x10",
    6: _SOA,
    15: b"\0\5\xc0\x0c",
    16: b"\3abc",
    28: bytes(16),
    33: b"\0\0\0\0\0\x50\xc0\x0c",
    35: b"\0\0\0\0\1u\1s\0\xc0\x0c",
    39: b"\3net\0",
    46: b"\0\1\5\2" + bytes(14) + b"\7example\0" + bytes(8),
    65280: b"\xc0\x0c",
}


def replies() -> Iterator[bytes]:
    """Replies of one to three records in each section, OPT first, last and missing."""

    def record(owner: bytes, rtype: int, ttl: int, rdata: bytes) -> bytes:
        return owner + struct.pack("!HHIH", rtype, 1, ttl, len(rdata)) + rdata

    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0x8000, 8) + b"\0\x0f\0\4\0\6ab"
    types = list(_RDATA)
    for number, qtype in enumerate((*types, 255)):
        one, two = (types[(number + step) % len(types)] for step in (0, 5))
        owners = [_NAMES[(number + step) % len(_NAMES)] for step in range(3)]
        answer = record(b"\xc0\x0c", one, 60, _RDATA[one])
        others = [record(owner, two, 20 * number, _RDATA[two]) for owner in owners]
        soa = record(b"\xc0\x10", 6, 300, _SOA)
        for rcode, sections in (
            (0, [[answer, others[0]], [], []]),
            (0, [[record(b"\xc0\x0c", 5, 9, _RDATA[5]), answer], [others[1]], [others[2]]]),
            (3, [[], [soa], [opt]]),
            (0, [[answer], [soa], [opt, *others]]),
            (2, [[], [], [*others, opt]]),
        ):
            counts = [len(each) for each in sections]
            header = struct.pack("!6H", 7, 0x8180 | rcode, 1, *counts)
            question = _NAMES[0] + struct.pack("!HH", qtype, 1)
            yield (
                bytes([number, 3 * number, 1, 7])
                + header
                + question
                + b"".join(octets for each in sections for octets in each)
            )


_AGES_S: Final = (0, 1, 59, 3601)
_MOST_TTL_S: Final = 86400
_MOST_STALE_TTL_S: Final = 30


def reply(octets: bytes) -> None:
    """A reply is read as dnspython reads it; its records are cached, age and are sent unchanged."""
    how, octets = octets[:4].ljust(4, b"\0"), octets[4:]
    if len(octets) < 12:
        return
    octets = octets[:2] + bytes([octets[2] & 0x07 | 0x80, octets[3]]) + b"\0\1" + octets[6:]
    try:
        end = Cursor(octets).end_of_name(12) + 4
    except (IndexError, ValueError):
        return
    asked = client_query(octets[12:end], how[0])
    if asked is None or asked.qclass != 1:  # no others are forwarded
        return
    found = dnspython.compare_reply(octets, asked.question, asked.labels)
    with contextlib.suppress(ReplyError):
        read_reply(octets)
    if found is None or found.truncated:
        return
    original = dnspython.sections_of(octets).sections
    cache, key = Cache(CacheSettings(stale_s=60.0 * how[1])), key_of(asked)
    sent = cache.put(key, found, 0.0)
    most_s = _MOST_TTL_S if sent.lifetime_s else 1 << 31
    if sent.negative and sent.lifetime_s:
        most_s = sent.lifetime_s
    check_rendered(original, sent, asked, how[2], lambda ttl: min(ttl, most_s))
    age_s = _AGES_S[how[3] % len(_AGES_S)]
    cached = cache.find(key, age_s + 0.5)
    is_fresh = cached is not None and cached.kind is ReplyKind.CACHED
    assert is_fresh is (age_s < sent.lifetime_s)
    if is_fresh:
        assert cached is not None
        check_rendered(original, cached.reply, asked, how[2], lambda ttl: min(ttl, most_s) - age_s)
    elif (stale := cache.find_stale(key, age_s + 0.5)) and stale.kind is ReplyKind.STALE:
        check_rendered(
            original, stale.reply, asked, how[2], lambda ttl: min(ttl, most_s, _MOST_STALE_TTL_S)
        )


def client_query(question: bytes, how: int) -> Query | None:
    opt = wire.write_opt(512 + 8 * how, do=bool(how & 1)) if how & 6 else b""
    request = wire.write_query(how, question[:-4], 1, rd=bool(how & 8), opt=opt)
    request = request[:12] + question + request[12 + len(question) :]
    try:
        return wire.read_query(request)
    except MessageError:
        return None


def check_rendered(
    original: list[list[dnspython.Record]],
    found: UpstreamReply,
    asked: Query,
    how: int,
    ttl_of: Callable[[int], int],
) -> None:
    """What is sent has the records of the upstream, with other TTLs, as far as there is room."""
    expected = [[each._replace(ttl=max(0, ttl_of(each.ttl))) for each in part] for part in original]
    for limit, is_tcp in ((65535, True), (512 + 4 * how, False)):
        message = render(found, asked, limit, SILENT, tcp=is_tcp)
        assert len(message) <= limit
        seen = dnspython.sections_of(message)
        assert (seen.opt is not None) is (asked.edns is not None)
        if found.rcode > 15 and asked.edns is None:
            assert (message[3] & 15, seen.sections) == (2, [[], [], []])
            continue
        for part, whole in zip(seen.sections, expected, strict=True):
            assert part == whole[: len(part)]
        is_cut = [len(each) for each in seen.sections[:2]] != [len(each) for each in expected[:2]]
        assert bool(message[2] & 2) is is_cut
        assert len(seen.sections[2]) in (0, len(expected[2]))
        assert not is_tcp or seen.sections == expected


# Objects.


@functools.cache
def manifest_texts() -> tuple[str, ...]:
    """Every document of the manifests of tests and examples that is not long."""
    files = (path for folder in (CASES, EXAMPLES) for path in folder.rglob("*.yaml"))
    texts = (text for path in sorted(files) for text in path.read_text().split("\n---\n"))
    return tuple(
        dict.fromkeys(text for text in texts if "kind:" in text and len(text) < MOST_BYTES)
    )


@functools.cache
def manifest_values() -> tuple[dict[str, object], ...]:
    documents = (each for text in manifest_texts() for each in yaml_text.read(text))
    return tuple(
        each.value for each in documents if isinstance(each, Document) and is_mapping(each.value)
    )


@functools.cache
def published() -> tuple[ZoneState, Handler]:
    world = world_of([])
    return world, handler_of(world, tcp=True)


def check_objects(objects: Iterable[Object]) -> None:
    """Whatever a reader lets through can be published, asked for, and taken away."""
    world, handler = published()
    for each in objects:
        namespace, service = each.service_key
        added: list[Object] = [each]
        if isinstance(each, EndpointSlice):
            added.append(msgspec.structs.replace(HEADLESS, namespace=namespace, name=service))
        for one in added:
            world.apply(Apply(one))
        handler.cache.evict(world.publish_all(0))
        assert len(world.tree.services) == 1
        name = names.wire_from_text(f"{service}.{namespace}.svc.{ZONE}")
        for qtype in (1, 28, 33, 255):
            answer = handler.reply_to(wire.write_query(1, name, qtype))
            assert answer is not None
            read_reply(answer)
        assert not handler.statistics().failures
        for one in added:
            world.apply(Delete(one.kind, one.key))
        handler.cache.evict(world.publish_all(0))
        assert not world.tree.services


PROFILES: Final = tuple(SliceProfile)
DECODERS: Final = (
    codec.Decoder(Kind.SERVICE_IMPORT, "multicluster.x-k8s.io/v1beta1", SliceProfile.MCS),
    *(codec.Decoder(Kind.ENDPOINT_SLICE, "discovery.k8s.io/v1", each) for each in PROFILES),
)


def lines() -> Iterator[bytes]:
    """A line of a watch for each object, a bookmark, a status and a page."""
    for number, value in enumerate(manifest_values()):
        event = ("ADDED", "MODIFIED", "DELETED")[number % 3]
        yield json.dumps({"type": event, "object": value}).encode()
    metadata = {"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}}
    status = {"code": 410, "reason": "Expired", "details": {"retryAfterSeconds": 1, "causes": []}}
    yield json.dumps({"type": "BOOKMARK", "object": {"metadata": metadata}}).encode()
    yield json.dumps({"type": "ERROR", "object": status}).encode()
    yield json.dumps({"metadata": {"continue": "x"}, "items": manifest_values()[:2]}).encode()


def watch(octets: bytes) -> None:
    """A line, an item, a page and a status are read, or are an error that says so."""
    for decoder in DECODERS:
        readings = [decoder.item(octets)]
        with contextlib.suppress(ObjectError):
            readings.append(decoder.line(octets))
        with contextlib.suppress(ObjectError):
            readings += map(decoder.item, codec.read_page(octets).items or ())
        shown = [each.message for each in readings if isinstance(each.message, Shown)]
        check_objects(each.object for each in shown if each.object)
    status = codec.read_status(octets, 500)
    assert status.trouble
    assert 0 <= status.retry_after_s <= codec.MAX_RETRY_AFTER_S


def manifests() -> Iterator[bytes]:
    """The documents, also as JSON, and two at once."""
    texts = manifest_texts()
    yield from map(str.encode, texts)
    yield from (json.dumps(each, indent=1).encode() for each in manifest_values())
    yield from (f"{one}\n---\n{two}".encode() for one, two in itertools.pairwise(texts))


def manifest(octets: bytes) -> None:
    """A text has objects, and problems with their lines."""
    text = yaml_text.decode(octets)
    found = documents.read(text, "f", PROFILES[len(octets) % len(PROFILES)])
    for each in found.problems:
        assert int(each.origin.removeprefix("f:")) > 0
    check_objects([*found.imports, *found.slices])


IDENTITY: Final = snapshot.SnapshotIdentity(
    server="", ca="", namespaces=(), import_selector="", slice_profile="", zones=()
)
PREAMBLE: Final = b"mcsdns-snapshot\n\0\0\0\1"


@functools.cache
def scratch() -> Path:
    """A folder in memory, if there is one, that goes with the process."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.TemporaryDirectory(dir=memory)
    atexit.register(folder.cleanup)
    return Path(folder.name)


def snapshots() -> Iterator[bytes]:
    """What stands between the magic and the checksum, for one object each."""
    path = scratch() / "seed"
    for text in manifest_texts():
        found = documents.read(text, "f")
        anyio.run(snapshot.write, str(path), IDENTITY, 0.0, "v1", [*found.imports, *found.slices])
        yield path.read_bytes()[len(PREAMBLE) : -hashlib.sha256().digest_size]


def read_parts(octets: bytes) -> list[Any]:
    """The header and the chunks as plain values."""
    parts, at = [], 0
    while at < len(octets):
        end = at + 4 + int.from_bytes(octets[at : at + 4], "big")
        parts.append(msgspec.msgpack.decode(octets[at + 4 : end]))
        at = end
    return parts


def write_parts(parts: Any) -> bytes:
    encoded = map(msgspec.msgpack.encode, parts if isinstance(parts, list) else [parts])
    return b"".join(struct.pack("!I", len(each)) + each for each in encoded)


def snapshot_file(octets: bytes) -> None:
    """A snapshot with a right checksum is read, or is an error that says so."""
    path = scratch() / "snapshot"
    content = PREAMBLE + octets
    path.write_bytes(content + hashlib.sha256(content).digest())
    with contextlib.suppress(snapshot.SnapshotError):
        check_objects(snapshot.read(str(path), IDENTITY, 0.0, 1e9).objects)


# Settings: a file, and variables behind NUL octets.


def settings() -> Iterator[bytes]:
    """Each setting in a file and in a variable, and the settings of the case files."""
    given = {
        "zone": "a.example",
        "listen": "[::1]:53",
        "upstream": "tls://10.0.0.53:853#dns.example",
        "stub_zone": "corp.example=10.0.0.53+[fd00::53]:5353",
        "allow": "10.0.0.0/8",
        "ns_address": "10.0.0.1",
        "namespace": "shop",
    }
    for field in config.fields():
        text = given.get(field.name) or field.default_text or "x"
        yield f"{field.name}: {text}\n\0{field.name.upper()}={text}".encode()
    for path in form.find_files([str(CASES)]):
        yield json.dumps(form.load(path).settings).encode()


def configuration(octets: bytes) -> None:
    """Settings are read, or are an error that says so; the same for what is made of them."""
    text, *variables = octets.split(b"\0")
    path = scratch() / "settings"
    path.write_bytes(text)
    environment = {"MCSDNS_CONFIG": str(path)}
    for variable in variables:
        key, _, value = variable.decode(errors="surrogateescape").partition("=")
        environment[f"MCSDNS_{key}"] = value
    resolv_conf.nameservers(text.decode(errors="replace"), ())
    try:
        made = config.load({}, environment)
    except ConfigError:
        return
    for make in (
        made.zone_settings,
        made.access,
        made.kubernetes_settings,
        made.upstreams,
        made.forward_settings,
        made.tcp_settings,
        made.admin_address,
        made.probe_addresses,
        made.listen_addresses,
        lambda: acl.Acl(made.allow or None, ()),
        lambda: made.is_ready_when_serving,
    ):
        with contextlib.suppress(ConfigError):
            make()


JSON: Final = (json.loads, lambda value: json.dumps(value).encode(errors="surrogatepass"))
TARGETS: Final = {
    each.name: each
    for each in (
        Target("query", requests, query),
        Target("tcp", streams, stream),
        Target("reply", replies, reply),
        Target("watch", lines, watch, JSON),
        Target("manifests", manifests, manifest, JSON),
        Target("snapshot", snapshots, snapshot_file, (read_parts, write_parts)),
        Target("config", settings, configuration, JSON),
    )
}
