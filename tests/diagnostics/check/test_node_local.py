"""What is said of a NodeLocal DNSCache, whose link-local address no test can have."""

from mcsdns.diagnostics.check.cluster_dns import Resolver
from mcsdns.diagnostics.check.finding import Report
from mcsdns.diagnostics.check.probe import Peer
from mcsdns.diagnostics.check.server import Expected, check_stub_block
from mcsdns.dns import name as names
from mcsdns.dns import write_query
from mcsdns.dns.request import Received, Request, Transport

ZONE = names.from_text("clusterset.local")
CACHE = Resolver("169.254.20.10", 53, "/etc/resolv.conf")


class Denies:
    """Answers everything with NXDOMAIN."""

    def ask(self, request: Request, transport: Transport) -> Received:
        message = bytearray(write_query(0, request.name, request.qtype, qclass=request.qclass))
        message[2:4] = b"\x81\x83"
        return Received(bytes(message), "the cache", transport, 0.0)


def test_cache_that_denies_the_zone() -> None:
    report = Report()
    peer = Peer(str(CACHE), Denies(), tuple(Transport), CACHE.is_node_local)
    check_stub_block(report, peer, [Expected(ZONE)])
    (finding,) = report.findings
    assert finding.reason == "node_local_dns"
    assert finding.what.startswith("NodeLocal DNSCache has no stub block for clusterset.local")
    assert "negative answer" in finding.what
    assert "mcsdns stub nodelocal --ip" in finding.mend
