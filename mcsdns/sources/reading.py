"""Files -> manifests, here or in a process of their own.

Reading YAML takes the interpreter for milliseconds to minutes, in which no query would be
answered. So whatever is read while serving is read by a child process (`python -m
mcsdns.sources.reading`: a JSON list of paths in, one frame for each slice of a file out), and only
what is small and read before serving is read here.
"""

import json
import struct
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from mcsdns.index.objects import EndpointSlice, ServiceImport
from mcsdns.sources import documents
from mcsdns.sources.documents import Broken, Located, Manifest

_FRAME: Final = struct.Struct("!I")
_OBJECTS_PER_FRAME: Final = 50


class Piece(msgspec.Struct, gc=False):
    """Some of what one file holds; the last piece of a file says so.

    Attributes:
        error: why the file could not be read at all, or empty.
    """

    file: str
    imports: list[ServiceImport] = []
    slices: list[EndpointSlice] = []
    problems: list[Located] = []
    broken: list[Broken] = []
    ignored: int = 0
    unreadable: int = 0
    error: str = ""
    last: bool = False


class ByteStream(Protocol):
    """What is needed of an anyio byte stream."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over chunks of any size."""
        ...


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Piece)


def read_file(path: str, max_bytes: int) -> Manifest | str:
    """Read one file; what is wrong with the file as a whole is returned as a text."""
    try:
        with open(path, "rb") as file:
            octets = file.read(max_bytes + 1)
    except OSError as error:
        return error.strerror or str(error)
    if len(octets) > max_bytes:
        return (
            f"larger than {max_bytes / 1e6:.0f} MB, it is not read; "
            "split it, or raise manifest_max_bytes"
        )
    return read_octets(octets, path)


def read_octets(octets: bytes, file: str) -> Manifest | str:
    """Read the content of one file or stream."""
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        return f"line {line} is not UTF-8 text, the file is not read"
    return documents.read(text, file)


def pieces_of(path: str, manifest: Manifest | str) -> Iterator[Piece]:
    """Cut what a file holds into pieces that each take about a millisecond to send or take."""
    if isinstance(manifest, str):
        yield Piece(path, error=manifest, last=True)
        return
    for start in range(0, len(manifest.objects), _OBJECTS_PER_FRAME):
        objects = manifest.objects[start : start + _OBJECTS_PER_FRAME]
        yield Piece(
            path,
            imports=[each for each in objects if isinstance(each, ServiceImport)],
            slices=[each for each in objects if isinstance(each, EndpointSlice)],
        )
    yield Piece(
        path,
        problems=manifest.problems,
        broken=manifest.broken,
        ignored=manifest.ignored,
        unreadable=manifest.unreadable,
        last=True,
    )


async def pieces_from(stream: ByteStream) -> AsyncIterator[Piece]:
    """Decode the frames of a child process as they arrive."""
    buffer = b""
    async for chunk in stream:
        buffer += chunk
        at = 0
        while len(buffer) - at >= _FRAME.size:
            end = at + _FRAME.size + int(_FRAME.unpack_from(buffer, at)[0])
            if end > len(buffer):
                break
            yield _decoder.decode(buffer[at + _FRAME.size : end])
            at = end
        buffer = buffer[at:]


def main() -> None:
    """Read the files named on standard input and write their pieces to standard output."""
    request = json.load(sys.stdin)
    paths: Sequence[str] = request["paths"]
    for path in paths:
        for piece in pieces_of(path, read_file(path, request["max_bytes"])):
            frame = _encoder.encode(piece)
            sys.stdout.buffer.write(_FRAME.pack(len(frame)) + frame)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
