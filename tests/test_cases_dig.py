"""Rows of the case files asked by `dig` itself: somebody else's reading of the same replies."""

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from mcsdns.diagnostics.cases import form
from mcsdns.diagnostics.cases.run import Check, Result, compare, failure_text
from mcsdns.diagnostics.client import RemoteServer
from mcsdns.dns import name as names
from mcsdns.dns.message_reader import Message, Opt, QuestionEntry, Record
from mcsdns.dns.rdata import class_name, type_name
from mcsdns.dns.request import Transport
from mcsdns.dns.types import FLAGS, Rcode, RRType
from tests.live import serving
from tests.test_cases import FILES, ROWS, row_id, settings_of

pytestmark = pytest.mark.skipif(
    shutil.which("dig") is None, reason="dig is missing (Debian: apt-get install bind9-dnsutils)"
)


def representatives() -> list[form.Row]:
    """The first row of each rcode, type and way of asking; transfers have a form of their own."""
    found: dict[tuple[object, ...], form.Row] = {}
    for row in ROWS:
        if row.request.qtype in (RRType.AXFR, RRType.IXFR):
            continue
        how = row.request
        ways = (how.rd, how.cd, how.ad, how.edns, how.size, how.version, how.do, how.options)
        found.setdefault((row.rcode, how.qtype, how.qclass, row.flags, ways), row)
    return list(found.values())


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, RemoteServer]]:
    with serving() as starter:
        yield {path: starter.start(settings_of(path)) for path in FILES}


def arguments(row: form.Row, server: RemoteServer, transport: Transport) -> list[str]:
    """Ask as the row says, and only once: no cookie, no second try over TCP or without EDNS."""
    host, _, port = str(server).rpartition(":")
    how = row.request
    switches = {"rdflag": how.rd, "cdflag": how.cd, "adflag": how.ad, "tcp": transport == "tcp"}
    found = ["dig", f"@{host}", "-p", port, "+yaml", "+nocookie", "+ignore", "+noednsnegotiation"]
    found += [f"+{'' if on else 'no'}{name}" for name, on in switches.items()]
    if how.edns:
        found += [
            f"+edns={how.version}",
            f"+bufsize={how.size}",
            f"+{'' if how.do else 'no'}dnssec",
        ]
        found += options(how.options)
    else:
        found.append("+noedns")
    found += ["-c", class_name(how.qclass), "-t", type_name(how.qtype)]
    return [*found, "-q", names.to_text(how.name)]


def options(octets: bytes) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(octets):
        size = int.from_bytes(octets[at + 2 : at + 4], "big")
        content = octets[at + 4 : at + 4 + size].hex()
        code = int.from_bytes(octets[at : at + 2], "big")
        found.append(f"+ednsopt={code}" + (f":{content}" if content else ""))
        at += 4 + size
    return found


def read(text: str) -> Message:
    """Turn what `dig +yaml` prints into a reply."""
    message = yaml.load(text, yaml.BaseLoader)[-1]["message"]
    said: dict[str, Any] = message["response_message_data"]
    opt = said.get("OPT_PSEUDOSECTION", {}).get("EDNS")
    return Message(
        id=int(said["id"]),
        opcode=0,
        rcode=Rcode[said["status"]],
        flags=sum(FLAGS[name] for name in said["flags"].split()),
        question=question(said.get("QUESTION_SECTION", [])),
        answer=records(said, "ANSWER"),
        authority=records(said, "AUTHORITY"),
        additional=records(said, "ADDITIONAL"),
        opt=read_opt(opt) if opt else None,
        size=int(message["message_size"].removesuffix("b")),
    )


def question(texts: list[str]) -> QuestionEntry | None:
    return form.Question(texts[0]).entry if texts else None


def records(said: dict[str, Any], section: str) -> tuple[Record, ...]:
    patterns = map(form.Pattern, said.get(f"{section}_SECTION", []))
    return tuple(
        Record(each.owner, each.ttl, each.rclass, each.rtype, each.data)  # type: ignore[arg-type]
        for each in patterns
    )


def read_opt(opt: dict[str, Any]) -> Opt:
    error = opt.get("EDE")
    options = []
    if error:
        code = int(error["INFO-CODE"].split()[0])
        options.append((15, code.to_bytes(2, "big") + error.get("EXTRA-TEXT", "").encode()))
    flags = 0x8000 if "do" in opt["flags"].split() else 0
    return Opt(int(opt["udp"]), int(opt["version"]), flags, 0, tuple(options))


@pytest.mark.parametrize(
    ("row", "transport"),
    [
        pytest.param(row, transport, id=f"{row_id(row)}-{transport}")
        for row in representatives()
        for transport in row.transports
    ],
)
def test_dig_gets_what_is_expected(
    row: form.Row, transport: Transport, servers: dict[str, RemoteServer]
) -> None:
    command = arguments(row, servers[row.file], transport)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    reply = read(done.stdout)
    check = Check(transport, tuple(compare(row, reply)), reply)
    assert check.passed, failure_text(Result(row, (check,), 0)) + f"\n{' '.join(command)}"


def test_every_rcode_is_among_them() -> None:
    asked = representatives()
    assert {row.rcode for row in asked} == {row.rcode for row in ROWS}
    assert len(asked) >= 60
