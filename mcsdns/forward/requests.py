"""What is sent to an upstream: the client's question in a request of our own.

EDNS is hop by hop (RFC 6891, 6.1.1), so the OPT record is ours: our size, the client's DO, our
mark. AD is always set: the reply may be for several clients, of which one may understand the bit
(RFC 6840, 5.7); `fitting` takes it off for all others.
"""

from typing import Final

from mcsdns.dns import HEADER_BYTES, MAX_UDP_BYTES, Query, write_opt, write_query
from mcsdns.dns.name import Name
from mcsdns.forward.loops import Loops

_BITS: Final = (False, True)
_HEADS: Final = [
    write_query(0, b"", 0, rd=rd, cd=cd, ad=True, opt=b"\0" if edns else b"")[:HEADER_BYTES]
    for cd in _BITS
    for rd in _BITS
    for edns in _BITS
]
"""Headers by their bits."""


class Requests:
    """Renders requests."""

    def __init__(self, loops: Loops) -> None:
        """Take who knows our mark."""
        self._loops = loops
        self._opts = [write_opt(MAX_UDP_BYTES, do=do, options=loops.option) for do in _BITS]

    def render(self, query: Query, mark: bytes, *, has_edns: bool) -> bytes:
        """Return a request with an id of 0 for a question that has passed what `mark` names."""
        head = _HEADS[query.cd << 2 | query.rd << 1 | has_edns]
        if not has_edns:
            return head + query.question
        do = query.edns is not None and query.edns.do
        if not mark:
            return b"".join((head, query.question, self._opts[do]))
        option = self._loops.option_after(mark)
        return b"".join((head, query.question, write_opt(MAX_UDP_BYTES, do=do, options=option)))


def query_of(name: Name, qtype: int) -> Query:
    """Return a question of our own."""
    question = name + qtype.to_bytes(2, "big") + b"\0\1"
    return Query(b"\0\0", True, False, question, name, (), qtype, 1, None)
