"""Many datagrams with one system call: recvmmsg(2) and sendmmsg(2) on fixed buffers.

Python's socket calls make an address tuple and a fresh buffer for every datagram; on the hot path
that cost more than all of our own work. Here a datagram lies in a slot of a buffer that is used
again and again, the peer's address stays where the kernel wrote it, and the reply goes out with
the same address, and on a wildcard socket with the same packet information, so it leaves from the
address that was asked.

Only 64-bit Linux has the layout that is written down here; `is_available` says so.
"""

import ctypes
import errno
import socket
import sys
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
    """Say whether this system has the calls and the layout this module knows."""
    return hasattr(_libc, "recvmmsg") and ctypes.sizeof(_Mmsghdr) == 64  # noqa: PLR2004


class Batch:
    """Slots for datagrams of one socket.

    Attributes:
        requests: slot i begins at i * SLOT_BYTES. replies: the same, for what goes behind the
            ID; the ID itself is sent from the request's slot.
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
        self._controls = bytearray(SLOTS * _CONTROL_BYTES)
        self._request_iovecs = (_Iovec * SLOTS)()
        self._reply_iovecs = (_Iovec * (2 * SLOTS))()
        self._received = (_Mmsghdr * SLOTS)()
        self._sent = (_Mmsghdr * SLOTS)()
        self.reply_sizes = memoryview(self._reply_iovecs).cast("B").cast("Q")
        self._sizes = memoryview(self._received).cast("B").cast("I")[_Mmsghdr.len.offset // 4 :]
        self._lay_out()
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
        assert _libc is not None
        if self._wildcard:
            self._clear_interfaces(begin, end)
        refused = 0
        while begin < end:
            at = self._sent_at + begin * ctypes.sizeof(_Mmsghdr)
            count = _libc.sendmmsg(self._fd, at, end - begin, _MSG_DONTWAIT)
            if count > 0:
                begin += count
            elif ctypes.get_errno() != errno.EINTR:
                refused += 1  # this one cannot be sent; those behind it may
                begin += 1
        return refused

    def address(self, slot: int) -> bytes:
        """Return the address that a request came from, 4 or 16 octets."""
        at = slot * _ADDRESS_BYTES
        return bytes(
            self._addresses[at + 8 : at + 24] if self._ipv6 else self._addresses[at + 4 : at + 8]
        )

    def envelope(self, slot: int) -> bytes:
        """Return the way back of a request, for `post`."""
        at, control = slot * _ADDRESS_BYTES, slot * _CONTROL_BYTES
        if self._wildcard:
            self._clear_interfaces(slot, slot + 1)
        return bytes(
            self._addresses[at : at + _ADDRESS_BYTES]
            + self._controls[control : control + _CONTROL_BYTES]
        )

    def post(self, letters: list[tuple[bytes, bytes]]) -> int:
        """Send messages on their way back, as many as there are slots; return those not taken.

        For a batch of its own: what lies in the slots is overwritten.
        """
        for slot, (envelope, message) in enumerate(letters):
            at, control = slot * _ADDRESS_BYTES, slot * _CONTROL_BYTES
            self._addresses[at : at + _ADDRESS_BYTES] = envelope[:_ADDRESS_BYTES]
            self._controls[control : control + _CONTROL_BYTES] = envelope[_ADDRESS_BYTES:]
            begin, size = slot * SLOT_BYTES, len(message) - 2
            self._request_octets[begin : begin + 2] = message[:2]
            self.replies[begin : begin + size] = message[2:]
            self.reply_sizes[4 * slot + 3] = size
        return self.send(0, len(letters))

    def _lay_out(self) -> None:
        requests = _address_of(self._request_octets)
        replies = _address_of(self.replies)
        addresses, controls = _address_of(self._addresses), _address_of(self._controls)
        for slot in range(SLOTS):
            request = requests + slot * SLOT_BYTES
            self._request_iovecs[slot] = _Iovec(request, SLOT_BYTES)
            self._reply_iovecs[2 * slot] = _Iovec(request, 2)
            self._reply_iovecs[2 * slot + 1] = _Iovec(replies + slot * SLOT_BYTES, 0)
            where = (addresses + slot * _ADDRESS_BYTES, controls + slot * _CONTROL_BYTES)
            self._received[slot].hdr = self._header(*where, self._request_iovecs, slot, 1)
            self._sent[slot].hdr = self._header(*where, self._reply_iovecs, 2 * slot, 2)

    def _header(
        self,
        address: int,
        control: int,
        iovecs: "ctypes.Array[_Iovec]",
        first: int,
        count: int,
    ) -> _Msghdr:
        return _Msghdr(
            name=address,
            namelen=28 if self._ipv6 else 16,
            iov=ctypes.addressof(iovecs) + first * ctypes.sizeof(_Iovec),
            iovlen=count,
            control=control if self._wildcard else None,
            controllen=(40 if self._ipv6 else 32) if self._wildcard else 0,
        )

    def _clear_interfaces(self, begin: int, end: int) -> None:
        """Leave the way back to the routing table, but for link-local addresses (ip(7)).

        The packet information keeps the address that was asked; struct in_pktinfo begins with the
        interface, struct in6_pktinfo ends with it (RFC 3542, 6.2).
        """
        controls = self._controls
        for slot in range(begin, end):
            at = slot * _CONTROL_BYTES + _CONTROL_HEADER_BYTES
            if not self._ipv6:
                controls[at : at + 4] = b"\0\0\0\0"
            elif controls[at] != 0xFE or controls[at + 1] & 0xC0 != 0x80:  # noqa: PLR2004
                controls[at + 16 : at + 20] = b"\0\0\0\0"


def _address_of(octets: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(octets)).from_buffer(octets))
