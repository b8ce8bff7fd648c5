"""The head of a request, as far as it is looked at before aiohttp reads it: size, and no body."""

from typing import Final

import msgspec

END: Final = b"\r\n\r\n"
_VERSIONS: Final = (b" HTTP/1.0", b" HTTP/1.1")
_NO_BODY: Final = (b"", b"0")
_PHRASES: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
}


class HeadLimits(msgspec.Struct, frozen=True):
    """Bounds in octets: of the first line or one field, and of the whole head."""

    field_bytes: int = 8 << 10
    head_bytes: int = 32 << 10


def fault_of(buffer: bytearray, end: int, limits: HeadLimits) -> tuple[int, str] | None:
    """Return the status and the text for a head that is not to be taken; None for a good one.

    Its blank line begins at `end`, which is -1 for a head that is not whole.
    """
    if not 0x41 <= buffer[0] <= 0x5A:  # noqa: PLR2004 - A to Z
        return 400, "this is no HTTP"
    if len(buffer) > limits.head_bytes and not 0 <= end <= limits.head_bytes:
        return 431, f"the head has more than {limits.head_bytes} octets"
    if end < 0:  # the last line alone, so that a head in many small pieces costs little
        begin = buffer.rfind(b"\n") + 1
        return _too_long(begin, limits) if len(buffer) - begin > limits.field_bytes else None
    first, *fields = bytes(buffer[:end]).split(b"\n")
    if len(first) > limits.field_bytes:
        return _too_long(0, limits)
    if not first.rstrip(b"\r").endswith(_VERSIONS):
        return 400, "this is no HTTP/1.1"
    for line in fields:
        if len(line) > limits.field_bytes:
            return _too_long(1, limits)
        name, _, value = line.partition(b":")
        name = name.strip().lower()
        if name == b"transfer-encoding" or (
            name == b"content-length" and value.strip() not in _NO_BODY
        ):
            return 413, "no request here has a body"
    return None


def _too_long(begin: int, limits: HeadLimits) -> tuple[int, str]:
    if begin == 0:
        return 414, f"the first line has more than {limits.field_bytes} octets"
    return 431, f"a field has more than {limits.field_bytes} octets"


def response(status: int, text: str) -> bytes:
    """Return a whole response, after which the connection is closed."""
    body = f"{text}\n"
    return (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\nServer: mcsdns\r\nConnection: close\r\n"
        "X-Content-Type-Options: nosniff\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
