"""Files -> manifests, here or in a process of their own.

Reading YAML takes the interpreter about a second for 6 MB, in which no query would be answered.
So whatever is read while serving is read by a child process (`main`: a JSON list of paths in,
frames of objects out), and only what is small and read before serving is read here. What kills
the child, for one want of memory, costs the file it was reading and no other.
"""

import contextlib
import gc
import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import anyio
import anyio.abc
import anyio.lowlevel
import msgspec

from mcsdns import yaml_text
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.model import EndpointSlice, Object, Problem, ServiceImport
from mcsdns.sources.manifests import documents, files
from mcsdns.sources.manifests.documents import ANYTHING, FileState, Located, Manifest

STANDARD_INPUT: Final = "-"
EMPTY: Final = "empty_file"
"""The reason of the problem that a file has no content: none, unless it had some before."""
_FRAME: Final = struct.Struct("!I")
_WEIGHT_PER_FRAME: Final = 400
"""Objects, endpoints and problems; to take so many costs the server about a millisecond."""
_CODE: Final = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from mcsdns.sources.manifests import worker; worker.main(sys.argv[2:])"
)

Take = Callable[[str, Manifest], Awaitable[None]]
"""Takes a path and what its file holds."""


class Piece(msgspec.Struct, gc=False):
    """Some of what one file holds; the first piece is empty, the last one says so."""

    imports: list[ServiceImport] = []
    slices: list[EndpointSlice] = []
    problems: list[Located] = []
    ignored: int = 0
    signature: FileState | None = None
    last: bool = False


class ByteStream(Protocol):
    """What is needed of an anyio byte stream."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over chunks of any size."""
        ...


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Piece)


def read_file(path: str, max_bytes: int, profile: SliceProfile = SliceProfile.MCS) -> Manifest:
    """Read one file, or standard input; what is wrong with all of it is one problem."""
    try:
        if path == STANDARD_INPUT:
            octets = sys.stdin.buffer.read(max_bytes + 1)
            return read_octets(octets, path, max_bytes, profile)
        with open(path, "rb") as file:
            octets = file.read(max_bytes + 1)
            signature = files.state_of(os.fstat(file.fileno()))
        manifest = read_octets(octets, path, max_bytes, profile)
        manifest.signature = signature
        return manifest
    except OSError as error:
        return _unreadable(path, error.strerror or str(error))
    except Exception as error:  # a fault of ours must not cost the other files
        return _unreadable(path, f"reading it failed: {error!r}")


def read_octets(octets: bytes, path: str, max_bytes: int, profile: SliceProfile) -> Manifest:
    """Read the content of one file, or one octet more than allowed."""
    if len(octets) > max_bytes:
        return _unreadable(
            path,
            f"larger than {max_bytes} octets, it is not read; "
            "split it, or raise manifest_max_bytes",
        )
    if not octets.strip():
        return _unreadable(path, "it is empty", EMPTY)
    return documents.read(yaml_text.decode(octets), file_name(path), profile)


def file_name(path: str) -> str:
    """Name a file for people; the system allows octets that are no text."""
    if path == STANDARD_INPUT:
        return "standard input"
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _unreadable(path: str, why: str, reason: str = "unreadable_file") -> Manifest:
    problem = Problem(reason, "file", "$", why)
    return Manifest(problems=[Located(file_name(path), problem, lost=ANYTHING)])


async def read_by_child(
    paths: Sequence[str],
    max_bytes: int,
    take: Take,
    profile: SliceProfile = SliceProfile.MCS,
) -> None:
    """Read files one after the other in another process; each is taken as it is whole."""
    waiting = list(paths)
    while waiting:
        begun, why = await _run_child(waiting, [str(max_bytes), profile], take)
        if not waiting:
            return
        blamed = waiting[:1] if begun else list(waiting)
        del waiting[: len(blamed)]
        for path in blamed:
            manifest = _unreadable(path, why)
            manifest.unread = True
            await take(path, manifest)


async def _run_child(waiting: list[str], how: list[str], take: Take) -> tuple[bool, str]:
    """Read files in order and take them off the list; `how` is what `main` is told first.

    Returns whether the first of those left was begun, and why it was not finished.
    """
    from_input = waiting == [STANDARD_INPUT]
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-P", "-c", _CODE, root, *how]
    begun = False
    try:
        child = await anyio.open_process(
            command + waiting if from_input else command,
            stdin=sys.stdin if from_input else -1,
            stderr=None,
            start_new_session=not from_input,  # an interrupt from the terminal is not for it
        )
    except OSError as error:
        return False, f"no process to read it: {error.strerror}"
    async with child:
        if child.stdin is not None:
            with contextlib.suppress(anyio.BrokenResourceError):
                await child.stdin.send(json.dumps(waiting).encode())
            await child.stdin.aclose()
        assert child.stdout is not None
        manifest = Manifest()
        async for piece in pieces_from(child.stdout):
            begun = not piece.last
            _add(manifest, piece)
            if piece.last:
                await take(waiting.pop(0), manifest)
                manifest = Manifest()
            await anyio.lowlevel.checkpoint()
    return begun, _why_dead(child)


def _why_dead(child: anyio.abc.Process) -> str:
    status = child.returncode or 0
    if status < 0:
        return f"reading it was ended by signal {-status}, perhaps for want of memory"
    return f"reading it failed with status {status}"


def _add(manifest: Manifest, piece: Piece) -> None:
    manifest.objects += piece.imports
    manifest.objects += piece.slices
    manifest.problems += piece.problems
    manifest.ignored += piece.ignored
    manifest.signature = piece.signature


def pieces_of(manifest: Manifest) -> Iterator[Piece]:
    """Cut what a file holds into pieces of about equal weight."""
    piece, weight = Piece(), 0
    for each in manifest.objects:
        if isinstance(each, ServiceImport):
            piece.imports.append(each)
        else:
            piece.slices.append(each)
        weight += _weight(each)
        if weight >= _WEIGHT_PER_FRAME:
            yield piece
            piece, weight = Piece(), 0
    yield piece
    for start in range(0, len(manifest.problems), _WEIGHT_PER_FRAME):
        yield Piece(problems=manifest.problems[start : start + _WEIGHT_PER_FRAME])
    yield Piece(ignored=manifest.ignored, signature=manifest.signature, last=True)


def _weight(each: Object) -> int:
    return 1 + len(each.endpoints) if isinstance(each, EndpointSlice) else 1


async def pieces_from(stream: ByteStream) -> AsyncIterator[Piece]:
    """Decode the frames of a child process as they arrive; what is cut off at the end is lost."""
    buffer = bytearray()
    async for chunk in stream:
        buffer += chunk
        at = 0
        while len(buffer) - at >= _FRAME.size:
            end = at + _FRAME.size + int(_FRAME.unpack_from(buffer, at)[0])
            if end > len(buffer):
                break
            yield _decoder.decode(memoryview(buffer)[at + _FRAME.size : end])
            at = end
        del buffer[:at]


def main(arguments: Sequence[str]) -> None:
    """Read files named by arguments or by standard input, and write their pieces.

    The largest size and the profile come first.

    Whoever else needs the processor or memory comes first.
    """
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # to end without a word
    gc.disable()  # nothing of this is cyclic
    os.nice(10)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    max_bytes, profile = int(arguments[0]), SliceProfile(arguments[1])
    paths: list[str] = list(arguments[2:]) or json.load(sys.stdin)
    for path in paths:
        _send(Piece())
        sys.stdout.buffer.flush()
        for piece in pieces_of(read_file(path, max_bytes, profile)):
            _send(piece)
    sys.stdout.buffer.flush()


def _send(piece: Piece) -> None:
    frame = _encoder.encode(piece)
    sys.stdout.buffer.write(_FRAME.pack(len(frame)) + frame)
