"""Bytes to Query and Response to bytes; whole messages of other kinds are read with dnslib.

No socket, no clock and no zone is known here.
"""

from mcsdns.dns.message import (
    HEADER_BYTES,
    MAX_TCP_BYTES,
    MAX_UDP_BYTES,
    MIN_UDP_BYTES,
    Edns,
    NegativeSoa,
    Query,
    RenderedMessage,
    Response,
)
from mcsdns.dns.reader import read_query
from mcsdns.dns.writer import write_error, write_opt, write_query, write_response

__all__ = [
    "HEADER_BYTES",
    "MAX_TCP_BYTES",
    "MAX_UDP_BYTES",
    "MIN_UDP_BYTES",
    "Edns",
    "NegativeSoa",
    "Query",
    "RenderedMessage",
    "Response",
    "read_query",
    "write_error",
    "write_opt",
    "write_query",
    "write_response",
]
