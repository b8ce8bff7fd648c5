import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from mcsdns import config
from mcsdns.cli import dig_format
from mcsdns.diagnostics.cases.form import Question
from mcsdns.diagnostics.client import RemoteServer
from mcsdns.dns.message_reader import read_reply
from mcsdns.dns.request import Received, Request, Transport
from tests.dns.test_message_reader import NAME, message, opt, option, record
from tests.live import serving

RECEIVED = Received(b"", "127.0.0.1#1053(127.0.0.1)", Transport.UDP, 0.0016)
DENIED = message(
    opt(option(15, b"\0\x12ask the service") + option(65001, b"\xde\xad"), ttl=0x8000),
    flags=0x8105,
    counts=(1, 0, 0, 1),
)
SERVICE = message(
    record(1, b"\x0a\0\0\1"),
    record(33, b"\0\0\0\x64\0\x50" + NAME),
    record(1, b"\x0a\0\0\2"),
    counts=(1, 2, 0, 1),
)

LONG = """\
;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: REFUSED, id: 43981
;; flags: qr rd; QUERY: 1, ANSWER: 0, AUTHORITY: 0, ADDITIONAL: 1
;; WARNING: recursion requested but not available

;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags: do; udp: 1232
; EDE: 18 (Prohibited): (ask the service)
; OPT=65001: de ad
;; QUESTION SECTION:
;web.shop.svc.clusterset.local.	IN	A

;; Query time: 2 msec
;; SERVER: 127.0.0.1#1053(127.0.0.1) (UDP)
;; WHEN: Thu Jan 01 00:00:00 UTC 1970
;; MSG SIZE  rcvd: 85

"""


@pytest.fixture(autouse=True)
def universal_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcsdns.cli.dig_format.time.localtime", __import__("time").gmtime)


def test_long_text_is_that_of_dig() -> None:
    reply = read_reply(DENIED)
    assert dig_format.long_text(reply, RECEIVED, 0).replace("GMT", "UTC") == LONG


def test_short_text_is_the_data_alone() -> None:
    reply = read_reply(SERVICE)
    assert dig_format.short_text(reply) == "10.0.0.1\n0 100 80 web.shop.svc.clusterset.local.\n"
    assert dig_format.short_text(read_reply(DENIED)) == ""


def test_json_text_is_one_document() -> None:
    document = json.loads(dig_format.json_text(read_reply(SERVICE), RECEIVED))
    name = "web.shop.svc.clusterset.local."
    assert document == {
        "rcode": "NOERROR",
        "flags": ["qr", "aa", "rd"],
        "question": {"name": name, "class": "IN", "type": "A"},
        "answer": [
            {"name": name, "ttl": 5, "class": "IN", "type": "A", "data": "10.0.0.1"},
            {"name": name, "ttl": 5, "class": "IN", "type": "SRV", "data": f"0 100 80 {name}"},
        ],
        "authority": [],
        "additional": [{"name": name, "ttl": 5, "class": "IN", "type": "A", "data": "10.0.0.2"}],
        "edns": None,
        "ede": [],
        "size": len(SERVICE),
        "server": "127.0.0.1#1053(127.0.0.1)",
        "transport": "udp",
        "query_time_ms": 1.6,
    }


def test_json_text_has_edns_and_extended_errors_apart() -> None:
    document = json.loads(dig_format.json_text(read_reply(DENIED), RECEIVED))
    assert document["edns"] == {
        "version": 0,
        "do": True,
        "size": 1232,
        "options": [{"code": 65001, "hex": "dead"}],
    }
    assert document["ede"] == [{"code": 18, "name": "Prohibited", "text": "ask the service"}]


def test_reply_without_question_is_shown() -> None:
    reply = read_reply(message(question=b"", flags=0x8001))
    assert "QUESTION SECTION" not in dig_format.long_text(reply, RECEIVED, 0)
    assert json.loads(dig_format.json_text(reply, RECEIVED))["question"] is None


def test_extended_error_without_text_or_name() -> None:
    wire = message(opt(option(15, b"\0\x16") + option(15, b"\xff\xff?")), counts=(1, 0, 0, 1))
    texts = [dig_format.error_text(error) for error in read_reply(wire).errors]
    assert texts == ["22 (No Reachable Authority)", "65535: (?)"]


def test_option_that_is_no_extended_error_leaves_the_next_one_in_its_place() -> None:
    wire = message(opt(option(15, b"\0") + option(15, b"\0\x12no")), counts=(1, 0, 0, 1))
    lines = dig_format.long_text(read_reply(wire), RECEIVED, 0).splitlines()
    assert [line for line in lines if line.startswith(("; EDE", "; OPT"))] == [
        "; OPT=15: 00",
        "; EDE: 18 (Prohibited): (no)",
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[RemoteServer]:
    with serving() as starter:
        yield starter.start(config.Settings(manifests=["examples/manifests"]))


def comparable(text: str) -> list[str]:
    """Leave out what differs from answer to answer, and dig's remarks about .local."""
    changing = (";; WHEN", ";; Query time", ";; ->>HEADER", ";; WARNING: .local", ";; You are")
    return sorted(line for line in text.splitlines() if not line.startswith(changing))


@pytest.mark.skipif(
    shutil.which("dig") is None, reason="dig is missing (Debian: apt-get install bind9-dnsutils)"
)
@pytest.mark.parametrize(
    "ask",
    [
        "rebel-base.default.svc.clusterset.local A",
        "holocron.archives.svc.clusterset.local AAAA",
        "_redis._tcp.holocron.archives.svc.clusterset.local SRV",
        "clusterset.local SOA",
        "clusterset.local NS",
        "dns-version.clusterset.local TXT",
        "cluster2.rebel-base.default.svc.clusterset.local A",
        r"a\.b\032c\200.clusterset.local DNSKEY",
        "dns.clusterset.local TYPE65280",
        ". NS",
    ],
)
def test_long_text_is_the_same_as_that_of_dig(ask: str, server: RemoteServer) -> None:
    host, port = str(server).split(":")
    name, kind = ask.split()
    arguments = ["+nocmd", "+nocookie", "+noadflag", "-q", name, "-t", kind]
    command = ["dig", f"@{host}", "-p", port, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    asked = Question(ask).entry
    request = Request(name=asked.name, qclass=asked.qclass, qtype=asked.qtype)
    received = server.ask(request, Transport.UDP)
    ours = dig_format.long_text(read_reply(received.wire), received, 0)
    assert comparable(ours) == comparable(done.stdout)
