"""DNS messages: names, values, octets read and written.

No socket, no clock and no zone is known here. Of dnslib only the presentation form of record types
is used that this server does not have itself (`rdata`).
"""

from mcsdns.dns.message import (
    MAX_TCP_BYTES,
    MAX_UDP_BYTES,
    MIN_UDP_BYTES,
    AddressesOf,
    Edns,
    NegativeSoa,
    Query,
    RenderedMessage,
    Response,
)
from mcsdns.dns.reader import read_query
from mcsdns.dns.types import HEADER_BYTES
from mcsdns.dns.writer import write_bad_key, write_error, write_opt, write_query, write_response

__all__ = [
    "HEADER_BYTES",
    "MAX_TCP_BYTES",
    "MAX_UDP_BYTES",
    "MIN_UDP_BYTES",
    "AddressesOf",
    "Edns",
    "NegativeSoa",
    "Query",
    "RenderedMessage",
    "Response",
    "read_query",
    "write_bad_key",
    "write_error",
    "write_opt",
    "write_query",
    "write_response",
]
