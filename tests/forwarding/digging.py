"""What `dig` shows of a reply, read from its text."""

import re
import subprocess
from dataclasses import dataclass, field

from tests.forwarding.servers import need

_STATUS = re.compile(r"status: (\w+)")
_FLAGS = re.compile(r"^;; flags: ([a-z ]*);", re.MULTILINE)
_EDNS = re.compile(r"^; EDNS: version: \d+, flags:([a-z ]*);", re.MULTILINE)
_ERROR = re.compile(r"^; EDE: (\d+)(?: \([^)]*\))?(?:: \((.*)\))?$", re.MULTILINE)
_SECTION = re.compile(r"^;; (\w+) SECTION:$")
_SIZE = re.compile(r"^;; MSG SIZE\s+rcvd: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Record:
    """One record; the owner name as it was written."""

    owner: str
    ttl: int
    rtype: str
    data: str


@dataclass
class Dug:
    """One reply: status, flags, records by section, and extended errors by number."""

    status: str
    flags: set[str]
    edns: set[str] | None
    errors: dict[int, str]
    size: int
    sections: dict[str, list[Record]] = field(default_factory=dict)
    question: str = ""

    @property
    def answer(self) -> list[Record]:
        return self.sections.get("ANSWER", [])

    @property
    def data(self) -> list[str]:
        """The data of the answer, sorted."""
        return sorted(record.data for record in self.answer)

    def contents(self) -> dict[str, list[tuple[str, str, str]]]:
        """Every record without its TTL, in lower-case owner names, sorted by section."""
        return {
            name: sorted((each.owner.lower(), each.rtype, each.data) for each in records)
            for name, records in self.sections.items()
        }

    def ttls(self) -> dict[tuple[str, str, str, str], int]:
        """The TTL of every record."""
        return {
            (name, each.owner.lower(), each.rtype, each.data): each.ttl
            for name, records in self.sections.items()
            for each in records
        }


def dig(address: tuple[str, int], name: str, qtype: str = "A", *options: str) -> Dug:
    """Ask one question."""
    (dug,) = dig_all(address, [(name, qtype)], *options)
    return dug


def dig_all(address: tuple[str, int], questions: list[tuple[str, str]], *options: str) -> list[Dug]:
    """Ask many questions by one process, one after the other; none is asked again."""
    given = ["+nocookie", "+tries=1", "+timeout=30", "+noednsnegotiation", *options]
    command = [need("dig"), "+nocmd", f"@{address[0]}", "-p", str(address[1])]
    for name, qtype in questions:
        command += [*given, "-q", name, "-t", qtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    replies = re.split(r"^;; Got answer:\n", done.stdout, flags=re.MULTILINE)[1:]
    assert len(replies) == len(questions), (done.stdout, done.stderr)
    return [_read(text) for text in replies]


def _read(text: str) -> Dug:
    status, flags, edns = _STATUS.search(text), _FLAGS.search(text), _EDNS.search(text)
    size = _SIZE.search(text)
    assert status is not None, text
    assert flags is not None, text
    dug = Dug(
        status[1],
        set(flags[1].split()),
        set(edns[1].split()) if edns else None,
        {int(code): said for code, said in _ERROR.findall(text)},
        int(size[1]) if size else 0,
    )
    section = ""
    for line in text.splitlines():
        if found := _SECTION.match(line):
            section = found[1]
        elif section == "QUESTION" and line.startswith(";"):
            dug.question = line[1:].split()[0]
        elif section and line and not line.startswith(";"):
            owner, ttl, _, rtype, data = line.split(None, 4)
            record = Record(owner, int(ttl), rtype, " ".join(data.split()))
            dug.sections.setdefault(section, []).append(record)
    return dug
