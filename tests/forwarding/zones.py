"""The zones that real servers serve to mcsdns in these tests."""

LONG_LABEL = "l" * 63
LONGEST = ".".join(["m" * 61] * 3 + ["n" * (253 - 3 * 62 - len(".example.test"))]) + ".example.test"
"""255 octets on the wire."""

_SOA = "@ 3600 SOA ns hostmaster 1 7200 900 1209600 20\n@ 3600 NS ns\nns 3600 A 127.0.0.1\n"
EXAMPLE = (
    "$ORIGIN example.test.\n"
    + _SOA
    + f"""\
www 300 A 192.0.2.1
www 300 A 192.0.2.2
www 300 AAAA 2001:db8::1
short 2 A 192.0.2.9
one 300 CNAME two
two 200 CNAME three
three 100 CNAME www
away 300 CNAME www.other.test.
dangling 300 CNAME nowhere
@ 300 MX 10 mail
@ 300 MX 20 mail.other.test.
mail 300 A 192.0.2.25
_https._tcp 300 SRV 1 2 443 www
_https._tcp 300 SRV 1 3 8443 mail
@ 300 HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1
alias 300 HTTPS 0 www
_dns 300 SVCB 1 www alpn=dot port=853
unknown 300 TYPE65280 \\# 5 0102030405
empty 300 TYPE65281 \\# 0
caa 300 CAA 0 issue "ca.example.net"
naptr 300 NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:a@example.test!" .
loc 300 LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
sshfp 300 SSHFP 4 2 123456789ABCDEF67890123456789ABCDEF67890123456789ABCDEF123456789
text 300 TXT "one string" "and \\"another\\" one" ""
sp\\032ace 300 A 192.0.2.32
dot\\.dot 300 A 192.0.2.46
nul\\000end 300 A 192.0.2.3
high\\255\\128 300 A 192.0.2.255
MiXed 300 A 192.0.2.77
{LONG_LABEL} 300 A 192.0.2.63
{LONGEST}. 300 A 192.0.2.254
*.wild 300 A 192.0.2.42
a.ent 300 A 192.0.2.5
dname 300 DNAME wild
zero 0 A 192.0.2.100
"""
    + "".join(f'large 300 TXT "{number:03}{"x" * 200}"\n' for number in range(60))
    + "".join(f"many 300 A 198.51.100.{number}\n" for number in range(1, 120))
)
OTHER = "$ORIGIN other.test.\n" + _SOA + "www 60 A 198.18.0.80\nmail 60 A 198.18.0.81\n"
BOGUS = "$ORIGIN bogus.test.\n" + _SOA + "www 60 A 192.0.2.66\n"
ZONES = {"example.test": EXAMPLE, "other.test": OTHER, "bogus.test": BOGUS}

QUESTIONS = [
    *(("www.example.test", qtype) for qtype in ("A", "AAAA", "HTTPS", "TXT")),
    *(("one.example.test", qtype) for qtype in ("A", "AAAA", "CNAME", "TXT")),
    *((f"{name}.example.test", "A") for name in ("away", "dangling", "many", "zero")),
    *(("example.test", qtype) for qtype in ("MX", "HTTPS", "SOA", "NS", "A")),
    *(("_https._tcp.example.test", qtype) for qtype in ("SRV", "A")),
    *(("alias.example.test", "HTTPS"), ("_dns.example.test", "SVCB")),
    *(("unknown.example.test", "TYPE65280"), ("empty.example.test", "TYPE65281")),
    *((f"{each}.example.test", each.upper()) for each in ("caa", "naptr", "loc", "sshfp")),
    *(("text.example.test", "TXT"), ("large.example.test", "TXT")),
    *((f"{each}.example.test", "A") for each in (r"sp\032ace", r"dot\.dot", r"nul\000end")),
    *((f"{each}.example.test", "A") for each in (r"high\255\128", "MiXed", LONG_LABEL)),
    *((LONGEST, "A"), ("any.thing.wild.example.test", "A"), ("any.thing.wild.example.test", "MX")),
    *(("ent.example.test", "A"), ("x.dname.example.test", "A"), ("dname.example.test", "DNAME")),
    *(("nowhere.example.test", "A"), ("no.where.example.test", "AAAA")),
    *(("www.other.test", "A"), ("nowhere.other.test", "TXT")),
]
"""What is asked of every upstream, in every way."""
