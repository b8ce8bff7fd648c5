"""Reads the Dockerfile: its instructions in order, each on one line, by stage."""

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"


class Instruction(NamedTuple):
    """A word in capitals and what it is given; `stage` counts the FROMs before it, from 1."""

    stage: int
    word: str
    text: str


def instructions() -> list[Instruction]:
    """All of them, without comments."""
    lines = [each for each in DOCKERFILE.read_text().splitlines() if not each.startswith("#")]
    found: list[Instruction] = []
    stage = 0
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, text = line.split(None, 1)
            stage += word == "FROM"
            found.append(Instruction(stage, word, " ".join(text.split())))
    return found


def given(word: str, stage: int | None = None) -> list[str]:
    """What an instruction is given, each time it occurs, in one stage or in all."""
    return [each.text for each in instructions() if each.word == word and stage in {None, each[0]}]


def stages() -> int:
    return len(given("FROM"))


def pairs(word: str, stage: int | None = None) -> dict[str, str]:
    """The `NAME=value` of ENV and LABEL."""
    words = [word for text in given(word, stage) for word in shlex.split(text)]
    return dict(word.split("=", 1) for word in words)


def health_command() -> list[str]:
    """What HEALTHCHECK runs."""
    (text,) = given("HEALTHCHECK")
    command = re.search(r"CMD (\[.*\])$", text)
    assert command, text
    words: list[str] = json.loads(command[1])
    return words
