"""An upstream that has all names there are: what a name's address is follows from the name.

Run as a process, `python -m bench.soak.upstream PORT`, so that it can be killed.
"""

from __future__ import annotations

import socket
import struct
import sys
import zlib

from bench.load import HOST
from bench.soak.wire import TYPES, opt

TTL = 10
_SOA_TIMES = struct.pack("!5I", 1, 7200, 1800, 86400, TTL)


def address_of(name: str) -> str:
    """Return the address of a name."""
    return socket.inet_ntoa(_octets_of(name.lower().encode()))


def reply_to(message: bytes) -> bytes:
    """Answer one question: A has an address, other types have none, and `absent-...` no name."""
    at, labels = 12, []
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].lower())
        at += 1 + length
    end = at + 5
    is_absent = labels[:1] != [] and labels[0].startswith(b"absent-")
    answer = authority = b""
    if message[at + 1 : at + 3] == TYPES["A"].to_bytes(2, "big") and not is_absent:
        answer = struct.pack("!HHHIH", 0xC00C, 1, 1, TTL, 4) + _octets_of(b".".join(labels))
    else:
        data = b"\0\0" + _SOA_TIMES
        authority = struct.pack("!BHHIH", 0, TYPES["SOA"], 1, TTL, len(data)) + data
    extra = opt(1232) if message[10:12] != b"\0\0" else b""
    flags = 0x8180 | (3 if is_absent else 0)
    head = struct.pack("!5H", flags, 1, bool(answer), bool(authority), bool(extra))
    return message[:2] + head + message[12:end] + answer + authority + extra


def _octets_of(name: bytes) -> bytes:
    return b"\x0a" + zlib.crc32(name).to_bytes(4, "big")[1:]


def main() -> None:
    """Answer until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((HOST, int(sys.argv[1])))
        while True:
            message, peer = sock.recvfrom(4096)
            sock.sendto(reply_to(message), peer)


if __name__ == "__main__":
    main()
