"""Whether a reply is right: its form by the RFCs, its answer by the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bench.soak import wire
from bench.soak.model import NOERROR, NXDOMAIN, Answer, Below, Names, Service
from bench.world import TTL, ZONE

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION_TTL = 28_800
DENIED = Answer(NXDOMAIN)
_KNOWN_REPLIES = 64


class Shape(NamedTuple):
    """How a question is asked: the size it says, 0 for none, and by what."""

    size: int = 0
    has_cookie: bool = False
    tcp: bool = False
    is_cased: bool = False

    @property
    def limit(self) -> int:
        """The most octets that the reply may have."""
        return 65_535 if self.tcp else min(max(self.size, 512), 1232)


class Question:
    """One question. Its answer is that of a service, or always the same."""

    __slots__ = ("_known", "below", "fixed", "is_ours", "name", "qtype", "service", "ttl", "wire")

    def __init__(
        self,
        name: str,
        qtype: str,
        *,
        service: Service | None = None,
        below: Below = (),
        fixed: Answer = DENIED,
        ttl: int = TTL,
    ) -> None:
        """Name a service, or the answer."""
        self.name, self.qtype, self.service, self.below = name, qtype, service, below
        self.fixed, self.ttl = fixed, ttl
        self.is_ours = name.endswith(ZONE)
        self.wire = wire.question(name, qtype)
        self._known: dict[tuple[bytes, Shape], int] = {}

    def is_known(self, reply: bytes, shape: Shape) -> bool:
        """Whether the very same octets were found to be the answer of the newest state."""
        return (
            self.service is not None
            and self._known.get((reply[2:], shape)) == self.service.generation
        )

    def know(self, reply: bytes, shape: Shape, generation: int) -> None:
        """Note that they are, as of some generation."""
        if len(self._known) >= _KNOWN_REPLIES:
            self._known.clear()
        self._known[reply[2:], shape] = generation

    def right(self, since_s: float, until_s: float) -> Iterator[tuple[Answer, Names, float]]:
        """Yield the answers that are right; see `Service.right`."""
        if self.service is None:
            yield self.fixed, {}, until_s
        else:
            yield from self.service.right(self.below, self.qtype, since_s, until_s)


class Asked(NamedTuple):
    """A question as it was sent; `wire` is its question section with the case of its letters."""

    question: Question
    wire: bytes
    shape: Shape
    sent_s: float

    def message(self, cookie: bytes = b"") -> bytes:
        """Return the request, without its ID."""
        size = self.shape.size
        head = b"\1\0\0\1\0\0\0\0\0" + bytes([bool(size)])
        return head + self.wire + (wire.opt(size, cookie) if size else b"")


class Verdict(NamedTuple):
    """What is wrong, if anything; or for how long the answer was outdated when it was asked for."""

    wrong: str = ""
    age_s: float = 0.0


def judge(asked: Asked, message: bytes, since_s: float, until_s: float) -> Verdict:
    """Compare a reply with everything that was right between two moments."""
    question = asked.question
    if question.is_known(message, asked.shape):
        return Verdict()
    generation = question.service.generation if question.service else -1
    try:
        reply = wire.read(message)
    except ValueError as error:
        return Verdict(f"malformed: {error}")
    wrong = _wrong_form(asked, message, reply)
    if wrong:
        return Verdict(wrong)
    seen = Answer(reply.rcode, frozenset(row.record for row in reply.answer))
    for right, names, over_s in question.right(since_s, until_s):
        is_part = reply.is_truncated and seen.records < right.records
        if seen.rcode == right.rcode and (seen.records == right.records or is_part):
            wrong = _wrong_additional(question, reply, names)
            if not wrong:
                if over_s == until_s and not asked.shape.is_cased:
                    question.know(message, asked.shape, generation)
                return Verdict(age_s=max(0.0, asked.sent_s - over_s))
    right = next(question.right(until_s, until_s))[0]
    return Verdict(wrong or f"answered {_text(seen)}, right is {_text(right)}")


def _text(answer: Answer) -> str:
    records = sorted(f"{kind} {data}" for kind, data in answer.records)
    return f"{answer.rcode} {', '.join(records[:6])}{' ...' if len(records) > 6 else ''}"


def _wrong_form(asked: Asked, message: bytes, reply: wire.Reply) -> str:
    """Return what is wrong whatever the answer is."""
    question, shape = asked.question, asked.shape
    is_denied = reply.rcode in {NOERROR, NXDOMAIN} and not reply.answer
    owners = {row.owner for row in reply.authority if row.record[0] == "SOA"}
    zone = ZONE if question.is_ours else ""
    checks = {
        "the question is another": message[12 : 12 + len(asked.wire)] == asked.wire,
        "QR, opcode, RD, RA, Z": reply.flags & 0xF9D0 == 0x8180,
        "AA": reply.is_authoritative is (question.is_ours and reply.rcode in {NOERROR, NXDOMAIN}),
        "larger than the client takes": len(message) <= shape.limit,
        "TC over TCP": not (shape.tcp and reply.is_truncated),
        "OPT": reply.opts == bool(shape.size),
        "no SOA": owners == ({zone} if is_denied else set()),
        "a record twice": len({row.record for row in reply.answer}) == len(reply.answer),
        "owner": all(row.owner == question.name for row in reply.answer),
        "TTL": all(
            row.ttl == question.ttl if question.is_ours else row.ttl <= question.ttl
            for row in reply.answer
        ),
    }
    return ", ".join(what for what, is_right in checks.items() if not is_right)


def _wrong_additional(question: Question, reply: wire.Reply, names: Names) -> str:
    """Return what is wrong with Additional: whole address sets of the targets, nothing else."""
    if not reply.additional:
        return ""
    if question.service is None:
        return "Additional"
    targets = {row.record[1].rpartition(" ")[2] for row in reply.answer}
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for row in reply.additional:
        found.setdefault((row.owner, row.record[0]), set()).add(row.record)
    for (owner, kind), records in found.items():
        head = owner.removesuffix(question.service.owner).rstrip(".")
        right = names.get(tuple(head.split(".")) if head else (), set())
        if owner not in targets or records != {each for each in right or () if each[0] == kind}:
            return f"Additional: {owner} {kind} {sorted(records)}"
    return ""
