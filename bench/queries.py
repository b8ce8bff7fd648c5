"""The questions that are asked: kinds of names, the mix, unknown names, and dnsperf's files.

A question is a pair of name and type, without a final dot. Files are text (one question a line), or
wire format (each message after its length, as over TCP): so every message has a cookie of its own.
"""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING

from bench.world import NAMESPACES, PORT_NAME, ZONE, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TYPE_NUMBERS = {"A": 1, "AAAA": 28, "SRV": 33}
Question = tuple[str, str]

MIX_SHARES = {"clusterip": 50, "headless": 20, "host": 10, "srv": 10, "nxdomain": 10}
NONEXISTENT_NAMES = 1_000
EDNS_COOKIE = 10
DIG_SIZE = 1232


def questions_by_kind(world: World, seed: int, mixed: int) -> dict[str, list[Question]]:
    """Return each kind's questions in random order.

    `mix` has `mixed` of them, drawn with repetition; `every` has each existing name once.
    """
    rng = random.Random(seed)
    kinds = {
        "clusterip": [(one.owner, "A") for one in world.services if not one.headless],
        "headless": [(one.owner, "A") for one in world.services if one.headless],
        "host": [(host, "A") for one in world.services if one.headless for host, _ in one.hosts],
        "srv": [(_port_name(one.owner), "SRV") for one in world.services],
        "srv-headless": [(_port_name(one.owner), "SRV") for one in world.services if one.headless],
        "nxdomain": list(unknown_questions(world, NONEXISTENT_NAMES, "absent")),
    }
    kinds["every"] = [
        question for kind in ("clusterip", "headless", "host", "srv") for question in kinds[kind]
    ]
    kinds["mix"] = [
        question
        for kind, percent in MIX_SHARES.items()
        for question in rng.choices(kinds[kind], k=mixed * percent // 100)
    ]
    for questions in kinds.values():
        rng.shuffle(questions)
    return kinds


def unknown_questions(world: World, count: int, label: str) -> Iterator[Question]:
    """Yield different names that do not exist: services, namespaces, and names below a service.

    `label` sets one call's names apart from another's.
    """
    services = world.services
    for number in range(count):
        unknown = f"{label}-{number:x}"
        match number % 4:
            case 0 | 1:
                name = f"{unknown}.ns-{number % NAMESPACES:03d}.svc.{ZONE}"
            case 2:
                name = f"web.{unknown}.svc.{ZONE}"
            case _:
                name = f"{unknown}.eu.{services[number % len(services)].owner}"
        yield name, "A"


def write_text(path: Path, questions: Iterable[Question]) -> None:
    """Write questions as dnsperf reads them by default."""
    with path.open("w") as file:
        file.writelines(f"{name} {type_name}\n" for name, type_name in questions)


def write_with_cookies(
    path: Path, questions: Iterable[Question], rng: random.Random, *, any_size: bool = False
) -> None:
    """Write questions as dig sends them, each with its own cookie and, if told, EDNS size."""
    with path.open("wb") as file:
        for question in questions:
            size = rng.randint(512, 4096) if any_size else DIG_SIZE
            message = _message(question, size, rng.randbytes(8))
            file.write(len(message).to_bytes(2, "big") + message)


def plain_message(question: Question) -> bytes:
    """Return a query without EDNS."""
    return bytes.fromhex("0000 0100 0001 0000 0000 0000") + _question_bytes(question)


def _message(question: Question, size: int, cookie: bytes) -> bytes:
    """Return a query with the flags RD and AD, as dig sets them, and a cookie in its OPT record.

    dnsperf overwrites the message id.
    """
    option = EDNS_COOKIE.to_bytes(2, "big") + len(cookie).to_bytes(2, "big") + cookie
    return (
        bytes.fromhex("0000 0120 0001 0000 0000 0001")
        + _question_bytes(question)
        + bytes.fromhex("00 0029")
        + size.to_bytes(2, "big")
        + bytes(4)
        + len(option).to_bytes(2, "big")
        + option
    )


@functools.lru_cache(maxsize=100_000)
def _question_bytes(question: Question) -> bytes:
    name, type_name = question
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return labels + b"\0" + TYPE_NUMBERS[type_name].to_bytes(2, "big") + b"\0\1"


def _port_name(owner: str) -> str:
    return f"_{PORT_NAME}._tcp.{owner}"
