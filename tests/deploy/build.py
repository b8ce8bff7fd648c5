"""The program that renders `deploy/`."""

from pathlib import Path

from tests.gobuild import BUILT, Program

ROOT = BUILT.parent
RENDER = Program(
    name="render",
    what="the program that renders deploy/",
    sources=Path(__file__).parent / "render",
    cache=BUILT / "deploy",
    command="python -m tests.deploy build",
)
