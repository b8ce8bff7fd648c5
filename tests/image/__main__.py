"""`python -m tests.image [BASE]` builds the image and tests it; root, buildah and minutes.

BASE is a base image: a local one, or what a registry has. Without one a stand-in is made, which
takes mmdebstrap and a mirror of Debian.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.image import base
from tests.image.build import build


def main(arguments: list[str]) -> int | str:
    """The status of the tests, or what is missing."""
    if len(arguments) > 1:
        return "usage: python -m tests.image [BASE]"
    wanted = ["buildah"] if arguments else ["buildah", "mmdebstrap", "strip"]
    missing = [each for each in wanted if shutil.which(each) is None]
    if missing or os.geteuid():
        return f"tests.image takes root and {', '.join(missing or wanted)}"
    with tempfile.TemporaryDirectory() as folder:
        build(arguments[0] if arguments else base.make(Path(folder)))
    return pytest.main(["-v", str(Path(__file__).parent)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
