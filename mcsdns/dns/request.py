"""What is asked and what came back, whoever is asked: a server or this process."""

import enum
from typing import Protocol

import msgspec

from mcsdns.dns import MAX_UDP_BYTES, write_opt, write_query
from mcsdns.dns.types import TC, RRClass


class Transport(enum.StrEnum):
    """How a request travels, and so which size its reply may have."""

    UDP = "udp"
    TCP = "tcp"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One question and how it is asked.

    Attributes:
        name: in wire form; the case is kept.
        rd, cd, ad: flags of the header.
        edns: whether there is an OPT record; the rest is of no account without one.
        size: UDP payload size. version, do: of EDNS. options: as they stand in the record.
    """

    name: bytes
    qtype: int
    qclass: int = RRClass.IN
    rd: bool = True
    cd: bool = False
    ad: bool = False
    edns: bool = True
    size: int = MAX_UDP_BYTES
    version: int = 0
    do: bool = False
    options: bytes = b""

    def encode(self, message_id: int) -> bytes:
        """Return the request's octets."""
        opt = b""
        if self.edns:
            opt = write_opt(self.size, version=self.version, do=self.do, options=self.options)
        return write_query(
            message_id,
            self.name,
            self.qtype,
            qclass=self.qclass,
            rd=self.rd,
            cd=self.cd,
            ad=self.ad,
            opt=opt,
        )


class Received(msgspec.Struct, frozen=True):
    """A reply as it came.

    Attributes:
        server: who sent it, for people. elapsed_s: seconds from the request to the reply.
    """

    wire: bytes
    server: str
    transport: Transport
    elapsed_s: float

    @property
    def truncated(self) -> bool:
        """Whether the reply says that it is not whole (TC)."""
        return bool(self.wire[2] & TC >> 8)


class NameServer(Protocol):
    """A name server that can be asked, wherever it is."""

    def ask(self, request: Request, transport: Transport) -> Received:
        """Ask once and return the reply, truncated or not.

        Raises:
            NoReplyError: there was none; says what to do.
        """
        ...


def ask_whole(server: NameServer, request: Request, transport: Transport) -> tuple[Received, bool]:
    """Ask, and over TCP again where the reply over UDP was truncated (RFC 7766, 5).

    Returns the last reply, and whether there was a truncated one before.

    Raises:
        NoReplyError: as `NameServer.ask`.
    """
    received = server.ask(request, transport)
    if transport is Transport.UDP and received.truncated:
        return server.ask(request, Transport.TCP), True
    return received, False
