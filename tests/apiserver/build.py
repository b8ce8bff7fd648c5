"""The program of the API server for tests."""

from pathlib import Path

from tests.gobuild import BUILT, Program

SOURCES = Path(__file__).parent
APISERVER = Program(
    name="apiserver",
    what="the API server for tests",
    sources=SOURCES,
    cache=BUILT / "apiserver",
    command="python -m tests.kube build",
    link="-s -w -X k8s.io/component-base/version.gitVersion=v1.35.4",
)
