"""Reading files here and in a child process, and what becomes of files that kill it."""

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.abc import ObjectReceiveStream

from mcsdns.objects.decode import SliceProfile
from mcsdns.sources.manifests import documents, worker
from mcsdns.sources.manifests.documents import ANYTHING, Manifest
from tests.sources.manifests.test_documents import IMPORT, SLICE, objects_of

MAX_BYTES = 1 << 20
KARMADA_SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: imported-member1-db-x7f2k
  labels:
    endpointslice.kubernetes.io/managed-by: endpointslice-controller.karmada.io
    kubernetes.io/service-name: derived-db
addressType: IPv4
endpoints: [{addresses: [10.77.0.1]}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that we are in."""
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, content: str | bytes) -> str:
    octets = content.encode() if isinstance(content, str) else content
    Path(path).write_bytes(octets)
    return path


async def by_child(paths: list[str]) -> dict[str, Manifest]:
    taken: dict[str, Manifest] = {}

    async def take(path: str, manifest: Manifest) -> None:
        taken[path] = manifest

    await worker.read_by_child(paths, MAX_BYTES, take)
    return taken


def children() -> list[int]:
    """The processes that this one has started and that still run."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids]


@contextlib.asynccontextmanager
async def child_at_work_on(fifo: str) -> AsyncIterator[int]:
    """Wait until a child reads a FIFO, and keep it waiting for content."""
    while True:
        try:
            writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:  # nobody reads
            await anyio.sleep(0.01)
    try:
        (pid,) = children()
        yield pid
    finally:
        os.close(writer)


def problem_of(manifest: Manifest) -> str:
    (located,) = manifest.problems
    assert located.lost == ANYTHING
    return f"{located.origin}: {located.problem.text}"


def test_file_that_cannot_be_read_is_one_problem() -> None:
    os.mkdir("folder.yaml")
    write("large.yaml", "#" * (MAX_BYTES + 1))
    write("empty.yaml", b"")
    write("blank.yaml", b" \n\n")
    for path, why in {
        "gone.yaml": "No such file or directory",
        "folder.yaml": "Is a directory",
        "large.yaml": f"larger than {MAX_BYTES} octets, it is not read; split it, or raise "
        "manifest_max_bytes",
        "empty.yaml": "it is empty",
        "blank.yaml": "it is empty",
    }.items():
        assert problem_of(worker.read_file(path, MAX_BYTES)) == f"{path}: {why}"


def test_file_that_may_not_be_read_is_one_problem(as_nobody: None) -> None:
    write("secret.yaml", IMPORT)
    os.chmod("secret.yaml", 0)
    why = problem_of(worker.read_file("secret.yaml", MAX_BYTES))
    assert why == "secret.yaml: Permission denied"


def test_file_of_the_largest_size_is_read() -> None:
    write("full.yaml", IMPORT + "#" * (MAX_BYTES - len(IMPORT)))
    assert len(objects_of(worker.read_file("full.yaml", MAX_BYTES))) == 1


def test_fault_of_ours_costs_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str, file: str, profile: SliceProfile) -> Manifest:
        raise RecursionError(file)

    monkeypatch.setattr(documents, "read", fail)
    why = problem_of(worker.read_file(write("a.yaml", IMPORT), MAX_BYTES))
    assert why == "a.yaml: reading it failed: RecursionError('a.yaml')"


async def test_child_reads_what_we_read() -> None:
    paths = [
        write("a.yaml", IMPORT + "---\n" + SLICE),
        write("b.yaml", "a: b: c\n---\n" + IMPORT.replace("port: 80", "port: x")),
        write("c.yaml", "kind: Pod\n"),
        write("empty.yaml", ""),
        "gone.yaml",
    ]
    taken = await by_child(paths)
    assert list(taken) == paths
    for path in paths:
        assert taken[path] == worker.read_file(path, MAX_BYTES)


async def test_child_reads_with_the_profile() -> None:
    path = write("b.yaml", KARMADA_SLICE)
    taken: list[Manifest] = []

    async def take(path: str, manifest: Manifest) -> None:
        taken.append(manifest)

    await worker.read_by_child([path], MAX_BYTES, take, SliceProfile.KARMADA)
    assert taken == [worker.read_file(path, MAX_BYTES, SliceProfile.KARMADA)]
    assert len(objects_of(taken[0])) == 1
    assert objects_of(worker.read_file(path, MAX_BYTES)) == []


async def test_no_file_needs_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert await by_child([]) == {}


async def test_file_name_that_is_no_text_is_read_and_told() -> None:
    path = os.fsdecode(b"caf\xe9.yaml")
    write(path, "a: b: c\n---\n" + IMPORT)
    for manifest in ((await by_child([path]))[path], worker.read_file(path, MAX_BYTES)):
        assert [each.origin for each in objects_of(manifest)] == ["caf\\xe9.yaml:3"]
        assert manifest.problems[0].origin == "caf\\xe9.yaml:1"


async def test_child_survives_what_would_end_an_interpreter() -> None:
    deep = write("deep.yaml", "[" * 100_000)
    bomb = write("bomb.yaml", "a: &a [x, x]\n" + "".join(f"b{i}: &a [*a, *a]\n" for i in range(99)))
    good = write("good.yaml", IMPORT)
    taken = await by_child([deep, bomb, good])
    assert "deeper than" in taken[deep].problems[0].problem.text
    assert "aliases for more" in taken[bomb].problems[0].problem.text
    assert len(objects_of(taken[good])) == 1


async def test_file_that_kills_the_child_costs_no_other() -> None:
    before, after = write("a.yaml", IMPORT), write("c.yaml", SLICE)
    os.mkfifo("b.yaml")
    taken: dict[str, Manifest] = {}
    async with anyio.create_task_group() as group:

        async def read() -> None:
            taken.update(await by_child([before, "b.yaml", after]))

        group.start_soon(read)
        async with child_at_work_on("b.yaml") as pid:
            os.kill(pid, signal.SIGKILL)
    assert problem_of(taken["b.yaml"]) == (
        "b.yaml: reading it was ended by signal 9, perhaps for want of memory"
    )
    assert (len(objects_of(taken[before])), len(objects_of(taken[after]))) == (1, 1)


async def test_child_ends_when_nobody_waits_for_it() -> None:
    os.mkfifo("pipe.yaml")
    async with anyio.create_task_group() as group:
        group.start_soon(by_child, ["pipe.yaml"])
        async with child_at_work_on("pipe.yaml"):
            group.cancel_scope.cancel()
    assert children() == []


@pytest.mark.parametrize(
    ("python", "why"),
    [
        ("/nowhere/python", "no process to read it: No such file or directory"),
        ("/bin/false", "reading it failed with status 1"),
    ],
)
async def test_without_a_child_every_file_is_told(
    python: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    taken = await by_child(["a.yaml", "b.yaml"])
    assert [problem_of(each) for each in taken.values()] == [f"a.yaml: {why}", f"b.yaml: {why}"]
    assert all(each.unread for each in taken.values())


async def test_child_takes_no_module_from_where_we_are() -> None:
    write("yaml.py", "raise SystemExit(3)\n")
    os.mkdir("mcsdns")
    write("mcsdns/__init__.py", "raise SystemExit(3)\n")
    taken = await by_child([write("a.yaml", IMPORT)])
    assert len(objects_of(taken["a.yaml"])) == 1


def oom_score_of(pid: int) -> str:
    return Path(f"/proc/{pid}/oom_score_adj").read_text()


async def test_child_lets_others_go_first() -> None:
    os.mkfifo("pipe.yaml")
    async with anyio.create_task_group() as group:
        group.start_soon(by_child, ["pipe.yaml"])
        async with child_at_work_on("pipe.yaml") as pid:
            ours = os.getpriority(os.PRIO_PROCESS, 0)
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(ours + 10, 19)
            assert oom_score_of(pid) == "1000\n"


def many(objects: int, endpoints: int, broken: int) -> Manifest:
    piece = SLICE.replace("- addresses: [10.1.0.1]\n", "- addresses: [10.1.0.1]\n" * endpoints)
    texts = [piece.replace("db-1", f"db-{number}") for number in range(objects)]
    texts += [IMPORT.replace("web", f"web-{number}") for number in range(objects)]
    texts += ["[]"] * broken
    return documents.read("\n---\n".join(texts), "a.yaml")


def joined(pieces: Iterable[Manifest]) -> Manifest:
    whole = Manifest()
    for piece in pieces:
        whole.imports += piece.imports
        whole.slices += piece.slices
        whole.problems += piece.problems
        whole.ignored += piece.ignored
    return whole


@pytest.mark.parametrize(
    ("objects", "endpoints", "broken"), [(0, 0, 0), (300, 3, 900), (2, 999, 1)]
)
def test_pieces_are_small_and_make_the_whole(objects: int, endpoints: int, broken: int) -> None:
    manifest = many(objects, endpoints, broken)
    pieces = list(worker.pieces_of(manifest))
    assert joined(pieces) == manifest
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    most = max(400, endpoints + 1)
    for piece in pieces:
        slices = sum(1 + len(each.endpoints) for each in piece.slices)
        assert len(piece.imports) + slices + len(piece.problems) <= 2 * most


def framed(pieces: Iterable[Manifest]) -> bytes:
    frames = [msgspec.msgpack.encode(piece) for piece in pieces]
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


class Chunks(ObjectReceiveStream[bytes]):
    """Octets that arrive in chunks of one size."""

    def __init__(self, octets: bytes, size: int) -> None:
        self._chunks = [octets[start : start + size] for start in range(0, len(octets), size)]

    async def receive(self) -> bytes:
        if not self._chunks:
            raise anyio.EndOfStream
        return self._chunks.pop(0)

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
async def test_pieces_are_read_from_chunks_of_any_size(size: int) -> None:
    pieces = list(worker.pieces_of(many(20, 3, 20)))
    octets = framed(pieces)
    assert [piece async for piece in worker.pieces_from(Chunks(octets, size))] == pieces
    cut = [piece async for piece in worker.pieces_from(Chunks(octets[:-1], size))]
    assert cut == pieces[:-1]
