"""The program that renders `deploy/`."""

from pathlib import Path

from tests.gobuild import BUILT, Program
from tests.paths import ROOT as ROOT

RENDER = Program(
    name="render",
    what="the program that renders deploy/",
    sources=Path(__file__).parent / "render",
    cache=BUILT / "deploy",
    command="python -m tests.deploy build",
)
