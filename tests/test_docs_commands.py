"""The commands on the pages: all are ours, and those that need nothing but this folder are run."""

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest

from mcsdns.app import log
from mcsdns.cli import main
from tests.conftest import ask
from tests.paths import ROOT, which
from tests.waiting import DEADLINE_S, TRY_S, free_port, wait_until

PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))),
    *(ROOT / name / "README.md" for name in ("examples", "corefile-examples")),
]
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = "serve|query|explain|check|test|stub"
LINE = re.compile(rf"^(?: {{4}}+|\$ )?(mcsdns (?:{COMMANDS})\b(?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)
SYNOPSIS = re.compile(r"[\[\]]|\b(?:NAME|CASES|SOURCE|PLATFORM|COMMAND)\b|…|\.\.\.")
ENDS = {"|", "||", "&&", "&", ">", ">>", "2>&1", ";"}
NEEDS_MORE = {"--server", "--cluster-dns", "--kubeconfig", "--admin", "--in-cluster"}
SERIAL = re.compile(r"(hostmaster\.\S+) \d+")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def words(line: str) -> list[str]:
    """The arguments of one command: without comments, and up to a pipe or redirection."""
    found = shlex.split(line.replace("\\\n", " "), comments=True)
    return list(takewhile(lambda word: word not in ENDS, found))


class Shown(NamedTuple):
    """A command and what is said to come out."""

    page: Path
    command: str
    output: list[str]


def shown() -> Iterator[Shown]:
    for page in PAGES:
        for block in CONSOLE.findall(page.read_text()):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, *output = part.rstrip("\n").split("\n")
                yield Shown(page, command, output)


def can_run(command: str) -> bool:
    """Whether a command needs nothing but the files that it names."""
    given = words(command)
    paths = [word for word in given if re.search(r"/|\.ya?ml$", word)]
    return (
        given[:1] == ["mcsdns"]
        and "--manifests" in given
        and not NEEDS_MORE & {*given}
        and all((ROOT / path).exists() for path in paths)
    )


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_have_flags_that_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = main.build_parser()
    for line in LINE.findall(page.read_text()):
        if SYNOPSIS.search(line):
            continue
        try:
            parser.parse_args(words(line)[1:])
        except SystemExit as stopped:
            pytest.fail(f"{line}\n{capsys.readouterr().err}") if stopped.code else None


RUNNABLE = [each for each in shown() if can_run(each.command)]


@pytest.mark.parametrize(
    "example", RUNNABLE, ids=[f"{each.page.name}: {each.command}" for each in RUNNABLE]
)
def test_output_on_a_page_is_what_comes_out(
    example: Shown, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`...` stands for the rest."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(log, "configure", lambda *_: None)
    with pytest.raises(SystemExit):
        main.main(words(example.command)[1:])
    out, err = capsys.readouterr()
    assert err == ""
    printed = SERIAL.sub(r"\1 SERIAL", out).rstrip("\n").split("\n")
    wanted = [SERIAL.sub(r"\1 SERIAL", line) for line in example.output]
    if wanted[-1] == "...":
        wanted.pop()
        printed = printed[: len(wanted)]
    assert printed == wanted


def test_examples_on_the_pages_are_found() -> None:
    names = {each.page.name for each in RUNNABLE}
    assert {"explain.md", "index.md", "troubleshooting.md"} <= names


# The first page, as somebody follows it.


class Walk:
    """Runs the commands of a page in its order, on ports that are free."""

    def __init__(self, folder: Path) -> None:
        self.ports = {port: str(free_port()) for port in ("1053", "1153", "8053")}
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        binaries = folder / "bin"
        binaries.mkdir()
        script = binaries / "mcsdns"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m mcsdns "$@"\n')
        script.chmod(0o755)
        self._environment = {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}:/usr/sbin",
            "MCSDNS_ADMIN": f"127.0.0.1:{self.ports['8053']}",
        }

    def here(self, text: str) -> str:
        for theirs, ours in self.ports.items():
            text = re.sub(rf"\b{theirs}\b", ours, text)
        return text.replace("forwarder.conf", str(self._folder / "forwarder.conf"))

    def start(self, command: str) -> None:
        """Start a server in the background, and wait until it is ready as the page says."""
        is_ours = command.startswith("mcsdns")
        port = self.ports["1053" if is_ours else "1153"]
        listening = [f"--listen=127.0.0.1:{port}"] if is_ours else []
        with self._log(port).open("wb") as log:
            self._running.append(
                subprocess.Popen(
                    ["/bin/sh", "-c", " ".join(["exec", self.here(command), *listening])],
                    cwd=ROOT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
        if is_ours:
            self.wait_log("ready: ")
        else:
            wait_until(lambda: self._answers(int(port)), command)

    def _log(self, port: str) -> Path:
        return self._folder / f"log-{port}"

    def wait_log(self, text: str) -> None:
        """Wait for a line of the mcsdns that was started."""
        wait_until(lambda: text in self._log(self.ports["1053"]).read_text(), text)

    def _answers(self, port: int) -> bool:
        try:
            ask(("127.0.0.1", port), "dns-version.clusterset.local", "TXT", timeout_s=TRY_S)
        except OSError:
            return False
        return True

    def run(self, command: str) -> str:
        ran = subprocess.run(
            ["/bin/sh", "-c", self.here(command)],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def end(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_S)


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    for command, package in (("dig", "bind9-dnsutils"), ("dnsmasq", "dnsmasq-base")):
        if which(command) is None:
            pytest.skip(f"{command} is missing (Debian: apt-get install {package})")
    one = Walk(tmp_path)
    yield one
    one.end()


def test_first_page_can_be_followed(walk: Walk) -> None:
    page = (ROOT / "docs" / "index.md").read_text()
    lines = [line for block in SHELL.findall(page) for line in block.splitlines()]
    printed = ""
    for line in lines:
        command, _, said = (part.strip() for part in line.partition("  # "))
        if command.startswith(("make ", "export ")):
            continue
        if command.endswith("&"):
            walk.start(command.removesuffix("&"))
        else:
            printed = walk.run(command)
            assert not said or printed.strip() == said, command
    assert "\nchecked  examples/manifests\n" in printed
    assert "error" not in printed
    walk.wait_log("status page on")  # it is opened after the first answers
    with urllib.request.urlopen(f"http://127.0.0.1:{walk.ports['8053']}/") as page_of_status:
        assert b"rebel-base" in page_of_status.read()
