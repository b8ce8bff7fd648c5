"""Which files are found, and what tells that one changed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mcsdns.sources.manifests import files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that we are in, so that paths are short; open to all."""
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str = "a: 1\n") -> str:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def found(*paths: str) -> list[str]:
    return list(files.find(paths).files)


def test_folders_are_searched_whole_in_order_of_names(folder: Path) -> None:
    for name in ("b.yaml", "a.yml", "c/z.json", "c/d/e.yaml", "README.md", "x.yaml.bak"):
        write(f"in/{name}")
    assert found("in") == ["in/a.yml", "in/b.yaml", "in/c/d/e.yaml", "in/c/z.json"]


def test_order_of_paths_comes_first_and_each_file_counts_once(folder: Path) -> None:
    for name in ("in/a.yaml", "in/b.yaml", "other"):
        write(name)
    assert found("in/b.yaml", "other", "in", "./in") == ["in/b.yaml", "other", "in/a.yaml"]


def test_hidden_names_are_passed_over_unless_named(folder: Path) -> None:
    write("in/.hidden.yaml")
    write("in/.git/config.yaml")
    assert found("in") == []
    assert found("in/.hidden.yaml") == ["in/.hidden.yaml"]


def test_volume_of_a_config_map_is_read_once_through_its_links(folder: Path) -> None:
    write("in/..2026_01/a.yaml")
    os.symlink("..2026_01", "in/..data")
    os.symlink("..data/a.yaml", "in/a.yaml")
    looked = files.find(["in"])
    assert list(looked.files) == ["in/a.yaml"]
    assert os.path.realpath("in/..2026_01") in looked.folders


def test_links_to_folders_are_followed_and_a_cycle_ends(folder: Path) -> None:
    write("in/a.yaml")
    write("out/b.yaml")
    os.symlink("../out", "in/out")
    os.symlink("../in", "out/in")
    os.symlink(".", "in/self")
    os.symlink("../in", "in/again")
    assert found("in") == ["in/a.yaml", "in/out/b.yaml"]


def test_links_in_a_circle_or_to_nowhere_are_told_and_cost_no_other(folder: Path) -> None:
    write("in/a.yaml")
    os.symlink("y.yaml", "in/x.yaml")
    os.symlink("x.yaml", "in/y.yaml")
    os.symlink("nowhere", "in/z.yaml")
    os.symlink("circle", "in/circle")
    looked = files.find(["in"])
    assert list(looked.files) == ["in/a.yaml"]
    assert looked.missing == {
        "in/x.yaml": "Too many levels of symbolic links",
        "in/y.yaml": "Too many levels of symbolic links",
        "in/z.yaml": "No such file or directory",
    }


def test_what_is_no_file_is_told(folder: Path) -> None:
    os.mkfifo("pipe.yaml")
    missing = files.find(["pipe.yaml", "gone", "a\0b"]).missing
    assert "embedded null" in missing.pop("a\0b")  # the rest of the text is the Python version's
    assert missing == {
        "pipe.yaml": "not a regular file",
        "gone": "No such file or directory",
    }


def test_folder_that_may_not_be_read_is_told(folder: Path, as_nobody: None) -> None:
    write("in/open.yaml")
    write("in/closed/a.yaml")
    os.chmod("in/closed", 0)
    try:
        looked = files.find(["in"])
    finally:
        os.chmod("in/closed", 0o755)
    assert list(looked.files) == ["in/open.yaml"]
    assert looked.missing == {"in/closed": "Permission denied"}
    assert looked.is_missing("in/closed/a.yaml")
    assert not looked.is_missing("in/closed.yaml")


def replace(path: str) -> None:
    os.replace(write(path + ".new", "b: 1\n"), path)


def keep_the_time(path: str) -> None:
    status = os.stat(path)
    write(path, "b: 1\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: list[tuple[str, Callable[[str], object]]] = [
    ("written anew", lambda path: write(path, "b: 1\n")),
    ("replaced", replace),
    ("cut short", lambda path: os.truncate(path, 2)),
    ("written with its old time", keep_the_time),
    ("allowed to be read", lambda path: os.chmod(path, 0o640)),
]


@pytest.mark.parametrize("change", [change for _, change in CHANGES], ids=[i for i, _ in CHANGES])
def test_signature_tells_a_change(folder: Path, change: Callable[[str], object]) -> None:
    write("a.yaml")
    before = files.find(["a.yaml"]).files
    assert files.find(["a.yaml"]).files == before
    while os.stat(folder).st_ctime_ns == os.stat(write("clock")).st_ctime_ns:
        pass  # file times move in steps of some milliseconds
    change("a.yaml")
    assert files.find(["a.yaml"]).files != before


def test_folders_to_watch_hold_the_named_the_searched_and_those_behind_links(folder: Path) -> None:
    write("in/c/a.yaml")
    write("out/b.yaml")
    write("in/.git/x.yaml")
    os.symlink("../out/b.yaml", "in/b.yaml")
    assert set(files.find(["in"]).folders) == {str(folder), "in", "in/c", str(folder / "out")}


def test_of_a_path_that_is_gone_the_closest_folder_above_is_watched(folder: Path) -> None:
    assert list(files.find(["no/such/file.yaml"]).folders) == [str(folder)]


def test_folder_that_was_made_anew_is_another(folder: Path) -> None:
    write("in/a.yaml")
    before = files.find(["in"]).folders
    os.rename("in", "old")
    write("in/a.yaml")
    assert files.find(["in"]).folders != before
