"""The objects on disk, for a start while the API is away.

    magic, format version | header | chunks of objects of one kind ... | SHA-256 of all before it

Header and chunks are msgpack and have their length before them. A file is believed only when the
checksum is right and it is of the same source and zone; then it is complete, or it would not be
there: it is written beside its place, synced to disk and renamed. It holds addresses and names of a
clusterset, so nobody else may read it.

`SnapshotWriter` writes it soon after a change, now and then without one (so that its age says when
the objects were last known to be true, not when they last changed), and never before the source is
synced: half of the objects would be served as if they were all. What the store holds because the
guard withholds a deletion is written too. At a start the guard compares the first list with what
was restored, as it does with any other list.

The clock and the waiting are given, so that tests move them.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import stat
import struct
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec

from mcsdns.errors import SourceError
from mcsdns.objects.decode import check
from mcsdns.objects.model import EndpointSlice, Kind, Object, ServiceImport
from mcsdns.sources.timeslice import Timeslice

logger = logging.getLogger(__name__)

_MAGIC: Final = b"mcsdns-snapshot\n"
_VERSION: Final = 1
_LENGTH: Final = struct.Struct(">I")
_PREAMBLE_BYTES: Final = len(_MAGIC) + _LENGTH.size
_DIGEST_BYTES: Final = hashlib.sha256().digest_size
MOST_BYTES: Final = 256 << 20
"""That of a million endpoints has 71 to 149 MB; all of it is in memory to be read."""
_CHUNK_WEIGHT: Final = 800
"""Endpoints in a chunk, each object counted as one more: half a millisecond to encode."""
IDENTITY_WORDS: Final = {
    "server": "API server",
    "ca": "certificate authority",
    "namespaces": "list of namespaces",
    "import_selector": "import selector",
    "slice_profile": "slice profile",
    "zones": "list of zones",
}
"""What to call the fields of `SnapshotIdentity`."""
_INTERVAL_S: Final = 5.0
"""A snapshot is not written more often than this."""
_REFRESH_S: Final = 600.0
"""Without any change it is written again after this, as long as the source is fresh."""
_RETRY_S: Final = 60.0
"""So long after a failure."""
_UNSYNCED_S: Final = 0.5
"""How often the writer looks whether there is something to write at all."""
_CONSEQUENCE: Final = "it is ignored, and written anew after the first sync"


class SnapshotError(SourceError):
    """A snapshot that is not to be used.

    Attributes:
        reason: `missing`, `unreadable`, `damaged`, `version`, `age` or `identity`, to count by.
    """

    def __init__(self, path: str, reason: str, why: str) -> None:
        then = "it is written after the first sync" if reason == "missing" else _CONSEQUENCE
        super().__init__(f"snapshot {path}: {why}; {then}")
        self.reason = reason


class SnapshotIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot must agree in with the server that reads it.

    Attributes:
        server: URL of the API server.
        ca: fingerprint of the certificate authority, or empty.
        namespaces: those that are read, in order; none means all.
        import_selector: label selector of the ServiceImports, or empty.
        slice_profile: which EndpointSlices count besides those with the labels of the KEP.
        zones: in order.
    """

    server: str
    ca: str
    namespaces: tuple[str, ...]
    import_selector: str
    slice_profile: str
    zones: tuple[str, ...]


class StoredSnapshot(msgspec.Struct, frozen=True):
    """What was read.

    Attributes:
        as_of_s: Unix time at which the objects were last known to be true.
        api_version: of the ServiceImports.
    """

    as_of_s: float
    api_version: str
    objects: list[Object]


class _Header(msgspec.Struct, frozen=True):
    identity: SnapshotIdentity
    as_of_s: float
    api_version: str
    objects: int


class _Imports(msgspec.Struct, frozen=True, tag="ServiceImport", gc=False):
    objects: Sequence[ServiceImport]


class _Slices(msgspec.Struct, frozen=True, tag="EndpointSlice", gc=False):
    objects: Sequence[EndpointSlice]


_encoder: Final = msgspec.msgpack.Encoder()
_header_decoder: Final = msgspec.msgpack.Decoder(_Header)
_chunk_decoder: Final = msgspec.msgpack.Decoder(_Imports | _Slices)


def read(
    path: str,
    identity: SnapshotIdentity,
    now_s: float,
    max_age_s: float,
) -> StoredSnapshot:
    """Read a snapshot, all of it or nothing.

    Raises:
        SnapshotError: it is not there, damaged, too old, or of something else.
    """
    content = _content(path)
    try:
        parts = _parts(content)
        header = _header_decoder.decode(next(parts))
        _check_age(path, header.as_of_s, now_s, max_age_s)
        _check_identity(path, header.identity, identity)
        objects: list[Object] = []
        for part in parts:
            objects += _chunk_decoder.decode(part).objects
        for each in objects:
            check(each)
    except SnapshotError:
        raise
    except (Exception, MemoryError) as error:
        # Whatever it is: a file that ends the process ends it at every start. A checksum tells that
        # it was not cut, not that it was written by us; a decoder may also run out of stack.
        why = f"its form is wrong ({str(error)[:200] or type(error).__name__})"
        raise SnapshotError(path, "damaged", why) from None
    if len(objects) != header.objects:
        raise SnapshotError(path, "damaged", "the number of objects is wrong")
    return StoredSnapshot(header.as_of_s, header.api_version, objects)


async def write(
    path: str,
    identity: SnapshotIdentity,
    as_of_s: float,
    api_version: str,
    objects: Sequence[Object],
) -> None:
    """Encode a snapshot in short slices of the event loop, and put it in its place at once.

    The objects are frozen; the sequence must not change until this returns.

    Raises:
        SourceError: it cannot be written; what was there stays.
    """
    timeslice = Timeslice()
    content = bytearray(_MAGIC + _LENGTH.pack(_VERSION))
    _append(content, _Header(identity, as_of_s, api_version, len(objects)))
    for chunk in _chunks(objects):
        _append(content, chunk)
        if len(content) + _DIGEST_BYTES > MOST_BYTES:
            raise SourceError(
                f"snapshot {path}: it would be larger than the {MOST_BYTES >> 20} MiB that a start "
                "reads, it is not written and what was there stays; narrow what is followed "
                "(--namespace)"
            )
        await timeslice.checkpoint()
    try:
        await anyio.to_thread.run_sync(_replace_file, path, content)
    except OSError as error:
        raise SourceError(
            f"snapshot {path}: {error.strerror or error}, it is not written and what was there "
            "stays; name a file in a folder that exists, can be written to and has room"
        ) from None


class Known(msgspec.Struct, frozen=True):
    """Of when the objects are, by a source that has all of them; see `StoredSnapshot`.

    Attributes:
        is_fresh: whether `as_of_s` is now, or nearly.
    """

    as_of_s: float
    api_version: str
    is_fresh: bool


Wait = Callable[[anyio.Event, float], Awaitable[None]]
"""Wait for an event, but not longer than so many seconds."""


async def wait_for(event: anyio.Event, seconds: float) -> None:
    """Wait for an event, but not longer than so many seconds."""
    with anyio.move_on_after(seconds):
        await event.wait()


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of the counters.

    Attributes:
        as_of_s: of the last file written, None before it.
        problem: why the last attempt failed, or empty.
    """

    writes: int
    failures: int
    as_of_s: float | None
    problem: str


class SnapshotWriter:
    """Keeps a snapshot on disk up to date."""

    def __init__(
        self,
        path: str,
        identity: SnapshotIdentity,
        known: Callable[[], Known | None],
        objects: Callable[[], Sequence[Object]],
        clock: Callable[[], float],
        wait: Wait = wait_for,
    ) -> None:
        """Name the file and who tells what is in it.

        `known` returns None before the source is synced; `objects` returns a new sequence.
        """
        self._path = path
        self._identity = identity
        self._known = known
        self._objects = objects
        self._clock = clock
        self._wait = wait
        self._wake = anyio.Event()
        self._changed = True
        self._looked_s = self._written_s = float("-inf")
        self._writes = self._failures = 0
        self._as_of_s: float | None = None
        self._problem = ""

    def note_change(self) -> None:
        """Tell that an object changed; to be called as often as that happens."""
        if not self._changed:
            self._changed = True
            self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            delay_s = self._due_s - self._clock()
            if delay_s <= 0:
                await self._look()
                continue
            if not self._changed:
                self._wake = anyio.Event()
            # With a change, the event is an old one that nobody sets: the interval is to pass.
            await self._wait(anyio.Event() if self._changed else self._wake, delay_s)

    async def flush(self) -> None:
        """Write what changed since the last time, as at the end."""
        known = self._known()
        if known is not None and self._changed:
            await self._write(known)

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(self._writes, self._failures, self._as_of_s, self._problem)

    @property
    def _due_s(self) -> float:
        """When to look next: later after a failure, sooner after a change."""
        earliest_s = self._looked_s + (_RETRY_S if self._problem else _INTERVAL_S)
        return earliest_s if self._changed else max(earliest_s, self._written_s + _REFRESH_S)

    async def _look(self) -> None:
        self._looked_s = self._clock()
        known = self._known()
        if known is None:  # so that the first file does not wait for a whole interval
            self._looked_s -= _INTERVAL_S - _UNSYNCED_S
        elif self._changed or known.is_fresh:
            await self._write(known)

    async def _write(self, known: Known) -> None:
        self._changed = False
        try:
            await write(
                self._path, self._identity, known.as_of_s, known.api_version, self._objects()
            )
        except asyncio.CancelledError:
            self._changed = True  # for `flush`
            raise
        except SourceError as error:
            self._note_failure(str(error))
            return
        if self._problem:
            logger.info("snapshot %s: written again", self._path)
        self._problem = ""
        self._writes += 1
        self._written_s, self._as_of_s = self._clock(), known.as_of_s

    def _note_failure(self, why: str) -> None:
        self._changed = True
        self._failures += 1
        if why != self._problem:
            self._problem = why
            logger.warning("%s", why)


def _chunks(objects: Sequence[Object]) -> Iterator[_Imports | _Slices]:
    """Split objects into parts of one kind, each short to encode."""
    for kind, run in groupby(objects, lambda each: each.kind):
        part: type[_Imports | _Slices] = _Imports if kind is Kind.SERVICE_IMPORT else _Slices
        chunk: list[Any] = []
        weight = 0
        for each in run:
            chunk.append(each)
            weight += 1 if isinstance(each, ServiceImport) else 1 + len(each.endpoints)
            if weight >= _CHUNK_WEIGHT:
                yield part(chunk)
                chunk, weight = [], 0
        if chunk:
            yield part(chunk)


def _append(buffer: bytearray, part: _Header | _Imports | _Slices) -> None:
    """Append a part with its length before it."""
    encoded = _encoder.encode(part)
    buffer += _LENGTH.pack(len(encoded))
    buffer += encoded


def _replace_file(path: str, content: bytearray) -> None:
    """Put content and its checksum in the place of a file once it is on disk, or leave no trace.

    For use in a thread: a network volume may be slow.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    if target.exists() and not target.is_file():
        raise OSError(0, "it is not a regular file")
    prefix, suffix = f".{target.name}.", ".tmp"
    for left_over in target.parent.iterdir():
        if left_over.name.startswith(prefix) and left_over.name.endswith(suffix):
            left_over.unlink(missing_ok=True)
    # mkstemp makes it for its owner alone, from the first byte.
    number, name = tempfile.mkstemp(suffix, prefix, target.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
            file.flush()
            os.fsync(number)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # it is in its place; not every volume can do this
            os.fsync(folder)
    finally:
        os.close(folder)


def _content(path: str) -> memoryview:
    """Return what is between the magic and the checksum, which is right."""
    content = _read_all(path)
    if not content.startswith(_MAGIC):
        raise SnapshotError(path, "damaged", "it is not a snapshot of mcsdns")
    if len(content) < _PREAMBLE_BYTES + _DIGEST_BYTES:
        raise SnapshotError(path, "damaged", "it is cut off")
    (version,) = _LENGTH.unpack_from(content, len(_MAGIC))
    if version != _VERSION:
        why = f"its format is version {version}, this mcsdns reads version {_VERSION}"
        raise SnapshotError(path, "version", why)
    view = memoryview(content)
    if hashlib.sha256(view[:-_DIGEST_BYTES]).digest() != bytes(view[-_DIGEST_BYTES:]):
        raise SnapshotError(path, "damaged", "the checksum is wrong")
    return view[_PREAMBLE_BYTES:-_DIGEST_BYTES]


def _read_all(path: str) -> bytes:
    try:
        # Opened before it is looked at, so that it is the same file; a named pipe would wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SnapshotError(path, "unreadable", "it is not a regular file")
            if status.st_size > MOST_BYTES:
                why = f"it has {status.st_size} octets, more than {MOST_BYTES}"
                raise SnapshotError(path, "unreadable", why)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(status.st_size)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise SnapshotError(path, "missing", "there is none yet") from None
    except OSError as error:
        raise SnapshotError(path, "unreadable", error.strerror or str(error)) from None


def _parts(content: memoryview) -> Iterator[memoryview]:
    at = 0
    while at < len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        yield content[at : at + length]
        at += length


def _check_age(path: str, as_of_s: float, now_s: float, max_age_s: float) -> None:
    age_s = now_s - as_of_s
    if not abs(age_s) <= max_age_s:
        old = f"{_span(age_s)} old" if age_s > 0 else f"from {_span(-age_s)} ahead of this clock"
        raise SnapshotError(path, "age", f"it is {old}, more than {_span(max_age_s)}")


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"


def _check_identity(path: str, theirs: SnapshotIdentity, ours: SnapshotIdentity) -> None:
    for field, name in IDENTITY_WORDS.items():
        its, here = _plain(getattr(theirs, field)), _plain(getattr(ours, field))
        if its != here:
            raise SnapshotError(path, "identity", f"its {name} is {its}, and {here} here")


def _plain(value: str | tuple[str, ...]) -> str:
    text = value if isinstance(value, str) else ", ".join(value)
    return text or "(none)"
