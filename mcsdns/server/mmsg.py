"""Many datagrams with one system call: recvmmsg(2) and sendmmsg(2) on fixed buffers.

Python's socket calls make an address tuple and a fresh buffer for every datagram; on the hot path
that cost more than all of our own work. Here a datagram lies in a slot of a buffer that is used
again and again, the peer's address stays where the kernel wrote it, and the reply goes out with
the same address, and on a wildcard socket with the same packet information, so it leaves from the
address that the request was sent to.

Only 64-bit Linux has the layout that is written down here; `is_available` returns whether it is.
"""

import ctypes
import errno
import socket
import sys
from collections.abc import Sequence
from typing import Final

SLOTS: Final = 64
SLOT_BYTES: Final = 4096
"""Larger than any request worth an answer over UDP; what is longer is cut and found malformed."""

_MSG_DONTWAIT: Final = 0x40
_ADDRESS_BYTES: Final = 28  # struct sockaddr_in6; struct sockaddr_in has 16
_CONTROL_BYTES: Final = 40  # CMSG_SPACE of in6_pktinfo; of in_pktinfo 32
_CONTROL_HEADER_BYTES: Final = 16


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", _Msghdr), ("len", ctypes.c_uint))


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
if _libc is not None and hasattr(_libc, "recvmmsg"):
    _PREFIX = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    _libc.recvmmsg.argtypes = (*_PREFIX, ctypes.c_void_p)
    _libc.sendmmsg.argtypes = _PREFIX


def is_available() -> bool:
    """Return whether this system has the calls and the layout this module knows."""
    return hasattr(_libc, "recvmmsg") and ctypes.sizeof(_Mmsghdr) == 64  # noqa: PLR2004


class Batch:
    """Slots for datagrams of one socket.

    Attributes:
        requests: slot i begins at i * SLOT_BYTES.
        replies: the same, for the response class, which is not sent, and what goes behind the ID;
            the ID is sent from the request's slot.
        reply_sizes: item 4 * i + 3 is how many octets of reply i there are behind the ID.
    """

    def __init__(self, sock: socket.socket, *, wildcard: bool) -> None:
        """Prepare for a bound, non-blocking socket; `wildcard` keeps packet information."""
        self._fd = sock.fileno()
        self._ipv6 = sock.family == socket.AF_INET6
        self._wildcard = wildcard
        self._request_octets = bytearray(SLOTS * SLOT_BYTES)
        self.requests = memoryview(self._request_octets)
        self.replies = bytearray(SLOTS * SLOT_BYTES)
        self._addresses = bytearray(SLOTS * _ADDRESS_BYTES)
        self._address_octets = memoryview(self._addresses)
        self._controls = bytearray(SLOTS * _CONTROL_BYTES)
        self._request_iovecs = (_Iovec * SLOTS)()
        self._reply_iovecs = (_Iovec * (2 * SLOTS))()
        self._received = (_Mmsghdr * SLOTS)()
        self._sent = (_Mmsghdr * SLOTS)()
        self.reply_sizes = memoryview(self._reply_iovecs).cast("B").cast("Q")
        self._sizes = memoryview(self._received).cast("B").cast("I")[_Mmsghdr.len.offset // 4 :]
        self._lay_out(_Layout(sock, wildcard, self._addresses, self._controls))
        self._received_at = ctypes.addressof(self._received)
        self._sent_at = ctypes.addressof(self._sent)

    def receive(self) -> list[int]:
        """Read what has arrived, up to SLOTS datagrams; return their sizes.

        Raises:
            OSError: other than that there is nothing.
        """
        assert _libc is not None
        count = _libc.recvmmsg(self._fd, self._received_at, SLOTS, _MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(code, "recvmmsg")
        return self._sizes[: count * 16 : 16].tolist()

    def send(self, begin: int, end: int) -> int:
        """Send the replies of slots `begin` to `end`; return how many the kernel did not take."""
        if self._wildcard:
            self._clear_interfaces(begin, end)
        return _send_all(self._fd, self._sent_at, begin, end)

    def request(self, slot: int) -> bytes:
        """Return the request in a slot."""
        at = slot * SLOT_BYTES
        return self.requests[at : at + self._sizes[16 * slot]].tobytes()

    def address(self, slot: int) -> bytes:
        """Return the address that a request came from, 4 or 16 octets."""
        at = slot * _ADDRESS_BYTES
        if self._ipv6:
            return self._address_octets[at + 8 : at + 24].tobytes()
        return self._address_octets[at + 4 : at + 8].tobytes()

    def destination(self, slot: int) -> bytes:
        """Return where a request came from, and which address it was sent to, for a `Sender`."""
        at = slot * _ADDRESS_BYTES
        address = self._address_octets[at : at + _ADDRESS_BYTES].tobytes()
        if not self._wildcard:
            return address
        self._clear_interfaces(slot, slot + 1)
        control = slot * _CONTROL_BYTES
        return address + self._controls[control : control + _CONTROL_BYTES]

    def _lay_out(self, layout: "_Layout") -> None:
        requests, replies = _address_of(self._request_octets), _address_of(self.replies)
        for slot in range(SLOTS):
            request = requests + slot * SLOT_BYTES
            self._request_iovecs[slot] = _Iovec(request, SLOT_BYTES)
            self._reply_iovecs[2 * slot] = _Iovec(request, 2)
            self._reply_iovecs[2 * slot + 1] = _Iovec(replies + slot * SLOT_BYTES + 1, 0)
            self._received[slot].hdr = layout.header(slot, self._request_iovecs, slot, 1)
            self._sent[slot].hdr = layout.header(slot, self._reply_iovecs, 2 * slot, 2)

    def _clear_interfaces(self, begin: int, end: int) -> None:
        """Leave the interface to the routing table, but for link-local addresses (ip(7)).

        The packet information keeps the address that a request was sent to. The interface is the
        first member of struct in_pktinfo and the last of struct in6_pktinfo (RFC 3542, 6.2).
        """
        controls = self._controls
        for slot in range(begin, end):
            at = slot * _CONTROL_BYTES + _CONTROL_HEADER_BYTES
            if not self._ipv6:
                controls[at : at + 4] = b"\0\0\0\0"
            elif controls[at] != 0xFE or controls[at + 1] & 0xC0 != 0x80:  # noqa: PLR2004
                controls[at + 16 : at + 20] = b"\0\0\0\0"


class Sender:
    """Sends messages to clients, as many with one call as there are slots."""

    def __init__(self, sock: socket.socket, *, wildcard: bool) -> None:
        """Prepare for a socket whose requests a `Batch` reads, with the same `wildcard`."""
        self._fd = sock.fileno()
        self._wildcard = wildcard
        self._messages = bytearray(SLOTS * SLOT_BYTES)
        self._addresses = bytearray(SLOTS * _ADDRESS_BYTES)
        self._controls = bytearray(SLOTS * _CONTROL_BYTES)
        self._iovecs = (_Iovec * SLOTS)()
        self._headers = (_Mmsghdr * SLOTS)()
        self._sizes = memoryview(self._iovecs).cast("B").cast("Q")
        self._headers_at = ctypes.addressof(self._headers)
        layout = _Layout(sock, wildcard, self._addresses, self._controls)
        messages = _address_of(self._messages)
        for slot in range(SLOTS):
            self._iovecs[slot] = _Iovec(messages + slot * SLOT_BYTES, 0)
            self._headers[slot].hdr = layout.header(slot, self._iovecs, slot, 1)

    def send(self, unsent: Sequence[tuple[bytes, bytes]]) -> int:
        """Send each message to its destination; return how many the kernel did not take."""
        messages, addresses, sizes = self._messages, self._addresses, self._sizes
        refused = 0
        for first in range(0, len(unsent), SLOTS):
            batch = unsent[first : first + SLOTS]
            begin = at = 0
            item = 1
            for destination, message in batch:
                sizes[item] = size = len(message)
                messages[begin : begin + size] = message
                addresses[at : at + _ADDRESS_BYTES] = destination[:_ADDRESS_BYTES]
                begin += SLOT_BYTES
                at += _ADDRESS_BYTES
                item += 2
            if self._wildcard:
                self._controls[: len(batch) * _CONTROL_BYTES] = b"".join(
                    destination[_ADDRESS_BYTES:] for destination, _ in batch
                )
            refused += _send_all(self._fd, self._headers_at, 0, len(batch))
        return refused


class _Layout:
    """Where addresses and packet information of each slot are, as the kernel wants to know it."""

    def __init__(
        self, sock: socket.socket, wildcard: bool, addresses: bytearray, controls: bytearray
    ) -> None:
        ipv6 = sock.family == socket.AF_INET6
        self._addresses = _address_of(addresses)
        self._controls = _address_of(controls)
        self._address_bytes = 28 if ipv6 else 16
        self._control_bytes = (40 if ipv6 else 32) if wildcard else 0

    def header(self, slot: int, iovecs: "ctypes.Array[_Iovec]", first: int, count: int) -> _Msghdr:
        """Return the header of a slot whose octets are in some of the iovecs."""
        return _Msghdr(
            name=self._addresses + slot * _ADDRESS_BYTES,
            namelen=self._address_bytes,
            iov=ctypes.addressof(iovecs) + first * ctypes.sizeof(_Iovec),
            iovlen=count,
            control=self._controls + slot * _CONTROL_BYTES if self._control_bytes else None,
            controllen=self._control_bytes,
        )


def _send_all(fd: int, headers_at: int, begin: int, end: int) -> int:
    """Send messages by their headers; return how many the kernel did not take."""
    assert _libc is not None
    refused = 0
    while begin < end:
        at = headers_at + begin * ctypes.sizeof(_Mmsghdr)
        count = _libc.sendmmsg(fd, at, end - begin, _MSG_DONTWAIT)
        if count > 0:
            begin += count
        elif ctypes.get_errno() != errno.EINTR:
            refused += 1  # this one cannot be sent; those behind it may
            begin += 1
    return refused


def _address_of(octets: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(octets)).from_buffer(octets))
