"""What a message is once it is read and before it is written: values, and the limits on sizes."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from mcsdns.dns.name import Name
from mcsdns.dns.types import Ede, Rcode, RRset

MAX_UDP_BYTES: Final = 1232
"""Largest datagram that crosses every path unfragmented (DNS flag day 2020): one number for what we
send, and for what we offer to take as a server and as a client."""
MIN_UDP_BYTES: Final = 512
MAX_TCP_BYTES: Final = 0xFFFF
MAX_ADDITIONAL_BYTES: Final = 8192
"""A message that is longer has no Additional: Node's `resolveSrv` fails on it (c-ares and its
answers of 100 endpoints with two families)."""


class Edns(msgspec.Struct, frozen=True, gc=False):
    """What a request's OPT record says (RFC 6891, 6.1.2).

    Attributes:
        size: the UDP payload size the client takes, as it was sent, octets.
        version: EDNS version; only 0 is served.
        do: the DNSSEC OK bit (RFC 3225).
        plain: no flag but DO is set; options do not count.
        options: the options as they stand there, each whole.
    """

    size: int
    version: int
    do: bool
    plain: bool
    options: bytes = b""


class Tsig(msgspec.Struct, frozen=True, gc=False):
    """What a request's TSIG record says, but for its MAC (RFC 8945, 4.2).

    Attributes:
        key, algorithm: names in wire form. signed: when, and the fudge, as they stand there.
        original_id: two octets.
    """

    key: bytes
    algorithm: bytes
    signed: bytes
    original_id: bytes


class Query(msgspec.Struct, frozen=True, gc=False):
    """One well-formed request.

    Attributes:
        id: the two octets of the message ID.
        rd: recursion desired. cd: checking disabled (RFC 4035, 3.2.2).
        question: the question section as it was asked: name, type and class.
        name: the name asked for, lower case.
        labels: where in `name` each label begins; the root is not among them.
        qtype: record type. qclass: class.
        edns: the OPT record, if there was one.
        ad: whether the sender understands the AD bit (RFC 6840, 5.7).
        tsig: the TSIG record, if there was one.
        reply_options: EDNS options that the reply carries, as they stand there.
    """

    id: bytes
    rd: bool
    cd: bool
    question: bytes
    name: Name
    labels: tuple[int, ...]
    qtype: int
    qclass: int
    edns: Edns | None
    ad: bool = False
    tsig: Tsig | None = None
    reply_options: bytes = b""

    def udp_limit(self, most: int) -> int:
        """Return the octets a UDP reply may have (RFC 6891, 6.2.3: under 512 counts as 512).

        `most` are those of the largest datagram that is sent.
        """
        size = MIN_UDP_BYTES if self.edns is None else self.edns.size
        return most if size >= most else size if size > MIN_UDP_BYTES else MIN_UDP_BYTES


class NegativeSoa(msgspec.Struct, frozen=True, gc=False):
    """The SOA record of a zone as it stands in negative replies (RFC 2308, 3).

    With compression its octets depend only on where the apex stands in the message, so one list
    serves every cached reply, and a new serial replaces 267 short strings, not the replies.

    Attributes:
        apex_bytes: octets of the apex, as a name in wire form.
        records: the record for each octet offset of the apex; index below 12 is unused.
    """

    apex_bytes: int
    records: list[bytes]


AddressesOf = Callable[[tuple[bytes, ...]], Sequence[tuple[Name, RRset]]]


class Response(msgspec.Struct, frozen=True, gc=False):
    """What to reply, before it has bytes.

    Attributes:
        rcode: response code; above 15 only for a client that sent an OPT record.
        aa: authoritative answer.
        answer: the RRset of the question's name, if any.
        addresses_of: returns owner and RRset of each address set that goes into Additional for
            records of the answer, which it takes as they stand in `rdatas`.
        negative: the zone's SOA for Authority, on NODATA and NXDOMAIN (RFC 2308, 3).
        ede: an Extended DNS Error, for a client that sent an OPT record.
    """

    rcode: int = Rcode.NOERROR
    aa: bool = False
    answer: RRset | None = None
    addresses_of: AddressesOf | None = None
    negative: NegativeSoa | None = None
    ede: Ede | None = None


class RenderedMessage(msgspec.Struct, frozen=True, gc=False):
    """A rendered response.

    Attributes:
        wire: the whole message.
        left_out: how many records of the answer found no room.
        whole: nothing was left out, neither records nor Additional nor an Extended DNS Error.
        soa_at: where the shared SOA record begins, or 0. opt_at: where it ends.
    """

    wire: bytes
    left_out: int = 0
    whole: bool = True
    soa_at: int = 0
    opt_at: int = 0
