"""A stand-in for the base image, where no registry of images is at hand: Debian with this Python.

It is laid out as the official one: Debian's smallest system, and a CPython built from source in
/usr/local, without tests and bytecode, with pip. Its patch level is that of the Python that runs
this, which has to be one built from source itself.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

NAME = "localhost/mcsdns-base-stand-in"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
SUITE = "bookworm"
LIBRARIES = (
    "ca-certificates netbase tzdata libbz2-1.0 libdb5.3 libexpat1 libffi8 libgdbm6 liblzma5 "
    "libncursesw6 libnsl2 libreadline8 libsqlite3-0 libssl3 libtirpc3 libuuid1 zlib1g"
)
WITHOUT = ("doc", "info", "locale", "man")
KEPT_PACKAGES = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")
TESTS = {"test", "tests", "idle_test"}
PIP = """#!/usr/local/bin/python3
import sys
from pip._internal.cli.main import main
sys.exit(main())
"""


def make(folder: Path) -> str:
    """Make the image and return its name. It takes half a minute."""
    root = folder / "base"
    _make_debian(root)
    _put_python(root)
    _commit(root)
    shutil.rmtree(root)
    return NAME


def _make_debian(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    options = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in WITHOUT]
    options += ["--variant=minbase", "--aptopt=APT::Install-Recommends false"]
    options += [f"--include={','.join(LIBRARIES.split())}"]
    _run("mmdebstrap", "--quiet", *options, SUITE, root)


def _put_python(root: Path) -> None:
    """Copy this Python as `make install` with the prefix /usr/local would have put it."""
    short = sysconfig.get_python_version()
    local, here = root / "usr" / "local", Path(sys.base_prefix)
    for library in (here / "lib").glob("libpython*.so*"):
        shutil.copy2(library, local / "lib", follow_symlinks=False)
    stdlib = local / "lib" / f"python{short}"
    shutil.copytree(here / "lib" / f"python{short}", stdlib, symlinks=True, ignore=_left_out)
    shutil.copy2(here / "bin" / f"python{short}", local / "bin")
    _run("strip", local / "bin" / f"python{short}", *local.rglob("*.so*"))
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to(f"python{short}")
    (local / "bin" / "pip").write_text(PIP)
    (local / "bin" / "pip").chmod(0o755)
    _run("chroot", root, "ldconfig")


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Name what the official image removes, and packages that somebody installed."""
    path = Path(folder)
    left = {each for each in names if each in TESTS or each.endswith((".pyc", ".a"))}
    if path.name == "site-packages":
        left |= {each for each in names if not each.startswith(KEPT_PACKAGES)}
    return left


def _commit(root: Path) -> None:
    container = _run("buildah", "from", "scratch").strip()
    try:
        _run("buildah", "add", "--quiet", container, root, "/")
        _run("buildah", "config", "--env", f"PATH={PATH}", "--env", "LANG=C.UTF-8", container)
        _run("buildah", "commit", "--quiet", container, NAME)
    finally:
        _run("buildah", "rm", container)


def _run(*command: object) -> str:
    words = [str(each) for each in command]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
