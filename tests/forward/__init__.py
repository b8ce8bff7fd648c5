"""Messages that the tests of this room share, built with dnslib."""

from collections.abc import Sequence

import dnslib
import msgspec

from mcsdns import dns
from mcsdns.dns import Query
from mcsdns.forward.render import cap_ttls, count_down, render
from mcsdns.forward.reply import UpstreamReply

EDE = 15


def question(name: str = "www.example", qtype: str = "A") -> bytes:
    return bytes(dnslib.DNSRecord.question(name, qtype).pack()[12:])


def upstream_message(
    answers: Sequence[str] = (),
    authority: Sequence[str] = (),
    additional: Sequence[str] = (),
    *,
    name: str = "www.example",
    qtype: str = "A",
    rcode: int = 0,
    bits: int = 0,
    opt: bool = True,
    errors: Sequence[bytes] = (),
) -> bytes:
    """An upstream's reply from zone-file lines; `bits` are set in its flags, rcode up to 4095."""
    message = dnslib.DNSRecord.question(name, qtype).reply(ra=1, aa=0)
    for lines, add in (
        (answers, message.add_answer),
        (authority, message.add_auth),
        (additional, message.add_ar),
    ):
        for line in lines:
            add(*dnslib.RR.fromZone(line))
    if opt:
        options = [dnslib.EDNSOption(EDE, each) for each in errors]
        message.add_ar(dnslib.EDNS0(udp_len=4096, ext_rcode=rcode >> 4, opts=options))
    octets = bytearray(message.pack())
    octets[2] |= bits >> 8
    octets[3] = octets[3] & 0xF0 | bits & 0xF0 | rcode & 0xF
    return bytes(octets)


def client_query(
    name: str = "www.example",
    qtype: str = "A",
    *,
    message_id: int = 0x1234,
    rd: bool = True,
    cd: bool = False,
    do: bool | None = False,
    size: int = 1232,
) -> Query:
    """A client's query; `do=None` is one without OPT. The case of the name is kept."""
    asked = dnslib.DNSRecord.question(name, qtype)
    opt = b"" if do is None else dns.write_opt(size, do=do)
    qtype_value = int.from_bytes(asked.pack()[-4:-2], "big")
    octets = b"".join(bytes((len(label),)) + label for label in name.encode().split(b"."))
    request = dns.write_query(message_id, octets + b"\0", qtype_value, rd=rd, cd=cd, opt=opt)
    query = dns.read_query(request)
    assert query is not None
    return query


def fit(
    reply: UpstreamReply,
    query: Query,
    limit: int,
    *,
    tcp: bool,
    age_s: int = 0,
    ttl: int | None = None,
    errors: bytes = b"",
    ad: bool = False,
) -> bytes:
    """Render a reply that is so old, or with no TTL above `ttl`, for a query with or without AD."""
    reply = count_down(reply, age_s) if ttl is None else cap_ttls(reply, ttl)
    return render(reply, msgspec.structs.replace(query, ad=ad), limit, errors, tcp=tcp)


def parsed(message: bytes) -> dnslib.DNSRecord:
    return dnslib.DNSRecord.parse(message)


def opt_of(message: bytes) -> dnslib.RR | None:
    found = [each for each in parsed(message).ar if each.rtype == dnslib.QTYPE.OPT]
    assert len(found) <= 1
    return found[0] if found else None


def errors_of(message: bytes) -> list[tuple[int, bytes]]:
    opt = opt_of(message)
    options = [] if opt is None else [each for each in opt.rdata if each.code == EDE]
    return [(int.from_bytes(each.data[:2], "big"), bytes(each.data[2:])) for each in options]
