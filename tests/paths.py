"""Where the project's own files are, and other servers: without pytest."""

import os
import shutil
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
CASES: Final = ROOT / "tests" / "cases"
EXAMPLES: Final = ROOT / "examples" / "manifests"


def which(command: str) -> str | None:
    """Find a command on the PATH, or in the `sbin` beside one of its folders, as root would."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    beside = [os.path.join(os.path.dirname(folder.rstrip("/")), "sbin") for folder in folders]
    return shutil.which(command, path=os.pathsep.join([*folders, *beside]))
