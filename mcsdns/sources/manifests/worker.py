"""Files -> manifests, in this process or in a child process.

Reading YAML takes the interpreter about a second for 6 MB, in which no query would be answered,
and who wrote a file may have written what takes all memory. So whatever is read while serving is
read by a child process (`main`: a JSON list of paths in, frames of msgpack out). It is nice, and
the first to go when memory runs out. Whatever kills it costs the file that it was reading and no
other: the next child goes on behind that one.

Only what is small and read before the first answer is read in this process. `yaml_text` bounds
depth and aliases in both.
"""

import contextlib
import gc
import itertools
import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import AnyByteReceiveStream
from anyio.streams.buffered import BufferedByteReceiveStream

from mcsdns import yaml_text
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.model import EndpointSlice, Problem, ServiceImport
from mcsdns.sources.manifests import documents, files
from mcsdns.sources.manifests.documents import ANYTHING, Located, Manifest

STANDARD_INPUT: Final = "-"
EMPTY: Final = "empty_file"
"""The reason of the problem that a file has no content: none, unless it had some before."""
_LENGTH: Final = struct.Struct("!I")
_WEIGHT_PER_FRAME: Final = 400
"""Objects, endpoints and problems; to decode so many takes about a millisecond."""
_CODE: Final = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from mcsdns.sources.manifests import worker; worker.main(sys.argv[2:])"
)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Manifest)

Take = Callable[[str, Manifest], Awaitable[None]]
"""Takes a path and what its file holds."""


def read_file(path: str, max_bytes: int, profile: SliceProfile = SliceProfile.MCS) -> Manifest:
    """Read one file, or standard input; what is wrong with all of it is one problem."""
    state = None
    try:
        if path == STANDARD_INPUT:
            octets = sys.stdin.buffer.read(max_bytes + 1)
        else:
            with open(path, "rb") as file:
                octets = file.read(max_bytes + 1)
                state = files.state_of(os.fstat(file.fileno()))
        if len(octets) > max_bytes:
            why = f"larger than {max_bytes} octets, it is not read; "
            manifest = _unreadable(path, why + "split it, or raise manifest_max_bytes")
        elif not octets.strip():
            manifest = _unreadable(path, "it is empty", EMPTY)
        else:
            manifest = documents.read(yaml_text.decode(octets), _file_name(path), profile)
    except OSError as error:
        return _unreadable(path, error.strerror or str(error))
    except Exception as error:  # a fault of ours must not cost the other files
        return _unreadable(path, f"reading it failed: {error!r}")
    manifest.state = state
    return manifest


def _file_name(path: str) -> str:
    """Name a file for people; the system allows octets that are no text."""
    if path == STANDARD_INPUT:
        return "standard input"
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _unreadable(path: str, why: str, reason: str = "unreadable_file") -> Manifest:
    problem = Problem(reason, "file", "$", why)
    return Manifest(problems=[Located(_file_name(path), problem, lost=ANYTHING)])


async def read_by_child(
    paths: Sequence[str],
    max_bytes: int,
    take: Take,
    profile: SliceProfile = SliceProfile.MCS,
) -> None:
    """Read files one after the other in another process; each is taken once it is complete."""
    waiting = list(paths)
    while waiting:
        is_begun, why = await _run_child(waiting, [str(max_bytes), profile], take)
        failed = waiting[:1] if is_begun else list(waiting)
        del waiting[: len(failed)]
        for path in failed:
            manifest = _unreadable(path, why)
            manifest.unread = True
            await take(path, manifest)


async def _run_child(waiting: list[str], how: list[str], take: Take) -> tuple[bool, str]:
    """Read files in order and take them off the list; `how` are the first arguments of `main`.

    Returns whether the first of those left was begun, and why it was not finished.
    """
    from_input = waiting == [STANDARD_INPUT]
    command = [sys.executable, "-P", "-c", _CODE, str(Path(__file__).parents[3]), *how]
    try:
        child = await anyio.open_process(
            command + waiting if from_input else command,
            stdin=sys.stdin if from_input else -1,
            stderr=None,
            start_new_session=not from_input,  # an interrupt from the terminal is not for it
        )
    except OSError as error:
        return False, f"no process to read it: {error.strerror}"
    is_begun = False
    async with child:
        if child.stdin is not None:
            with contextlib.suppress(anyio.BrokenResourceError):
                await child.stdin.send(json.dumps(waiting).encode())
            await child.stdin.aclose()
        assert child.stdout is not None
        manifest = Manifest()
        async for piece in pieces_from(child.stdout):
            is_begun = not piece.is_last
            manifest.imports += piece.imports
            manifest.slices += piece.slices
            manifest.problems += piece.problems
            manifest.ignored, manifest.state = piece.ignored, piece.state
            if piece.is_last:
                await take(waiting.pop(0), manifest)
                manifest = Manifest()
            await anyio.lowlevel.checkpoint()
    status = child.returncode or 0
    if status < 0:
        return is_begun, f"reading it was ended by signal {-status}, perhaps for want of memory"
    return is_begun, f"reading it failed with status {status}"


def pieces_of(manifest: Manifest) -> Iterator[Manifest]:
    """Cut what a file holds into pieces of about equal weight; `is_last` says which ends it."""
    piece, weight = Manifest(), 0
    for each in itertools.chain(manifest.imports, manifest.slices, manifest.problems):
        weight += 1
        match each:
            case ServiceImport():
                piece.imports.append(each)
            case EndpointSlice():
                piece.slices.append(each)
                weight += len(each.endpoints)
            case Located():
                piece.problems.append(each)
        if weight >= _WEIGHT_PER_FRAME:
            yield piece
            piece, weight = Manifest(), 0
    piece.ignored, piece.state, piece.is_last = manifest.ignored, manifest.state, True
    yield piece


async def pieces_from(stream: AnyByteReceiveStream) -> AsyncIterator[Manifest]:
    """Decode the frames of a child process as they arrive; what is cut off at the end is lost."""
    buffered = BufferedByteReceiveStream(stream)
    with contextlib.suppress(anyio.EndOfStream, anyio.IncompleteRead):
        while True:
            (length,) = _LENGTH.unpack(await buffered.receive_exactly(_LENGTH.size))
            yield _decoder.decode(await buffered.receive_exactly(length))


def main(arguments: Sequence[str]) -> None:
    """Read files named by arguments or by standard input, and write their pieces.

    The largest size and the profile come first. An empty piece says that a file is begun.
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
        _send(Manifest())
        sys.stdout.buffer.flush()
        for piece in pieces_of(read_file(path, max_bytes, profile)):
            _send(piece)
    sys.stdout.buffer.flush()


def _send(piece: Manifest) -> None:
    frame = _encoder.encode(piece)
    sys.stdout.buffer.write(_LENGTH.pack(len(frame)) + frame)
