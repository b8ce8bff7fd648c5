"""Where the project's own files are, for tests that read them."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
CASES: Final = ROOT / "tests" / "cases"
EXAMPLES: Final = ROOT / "examples" / "manifests"
