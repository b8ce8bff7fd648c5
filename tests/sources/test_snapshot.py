import contextlib
import hashlib
import os
import resource
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcsdns.errors import SourceError
from mcsdns.objects.model import Endpoint, EndpointSlice, Object, Port, ServiceImport
from mcsdns.sources import snapshot
from mcsdns.sources.snapshot import SnapshotError, SnapshotIdentity, StoredSnapshot
from tests.profiles import examples
from tests.worlds import endpoint_slice, service_import

HERE = SnapshotIdentity(
    server="https://api.example:6443",
    ca="ab12",
    namespaces=("shop",),
    import_selector="team=a",
    slice_profile="spec",
    zones=("clusterset.local",),
)
AS_OF_S = 1_700_000_000.0
DAY_S = 86_400.0
WORLD = [
    service_import("web", ips=["10.0.0.1", "fd00::1"], ports=[("http", 80)]),
    service_import("db"),
    endpoint_slice("db", "eu", ["10.1.0.1", "10.1.0.2"]),
    endpoint_slice("db", "us", ["fd00::2"], ready=False),
]


async def save(path: Path, objects: Sequence[Object] = WORLD) -> Path:
    await snapshot.write(str(path), HERE, AS_OF_S, "v1beta1", objects)
    return path


def load(
    path: Path, identity: SnapshotIdentity = HERE, now_s: float = AS_OF_S + 60
) -> StoredSnapshot:
    return snapshot.read(str(path), identity, now_s, DAY_S)


def refused(path: Path, **options: Any) -> SnapshotError:
    with pytest.raises(SnapshotError) as caught:
        load(path, **options)
    assert str(caught.value).startswith(f"snapshot {path}: ")
    assert str(caught.value).endswith("after the first sync")
    return caught.value


async def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = load(await save(tmp_path / "snapshot"))
    assert found == StoredSnapshot(AS_OF_S, "v1beta1", WORLD)


_labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?", fullmatch=True)
_ports = st.lists(
    st.builds(Port, st.just("") | _labels, _labels, st.none() | st.integers(0, 65535)), max_size=3
).map(tuple)
_named = {"namespace": _labels, "name": _labels, "ports": _ports}
_objects = st.lists(  # in any order of kinds
    st.builds(ServiceImport, **_named, ips=st.just(()))
    | st.builds(EndpointSlice, **_named, service=_labels, cluster=_labels, endpoints=st.just(()))
)


@settings(examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_objects)
def test_any_objects_are_read_as_they_were(tmp_path: Path, objects: list[Object]) -> None:
    path = tmp_path / "snapshot"
    anyio.run(save, path, objects)
    assert load(path).objects == objects


async def test_thousands_of_endpoints_take_many_parts(tmp_path: Path) -> None:
    many = [
        endpoint_slice("db", f"c{number}", [f"10.1.0.{host}" for host in range(1, 101)])
        for number in range(150)
    ]
    path = await save(tmp_path / "snapshot", [*many, *WORLD])
    assert path.stat().st_size > 1 << 20
    assert load(path).objects == [*many, *WORLD]


async def test_an_empty_world_is_a_snapshot_too(tmp_path: Path) -> None:
    assert load(await save(tmp_path / "snapshot", [])).objects == []


async def test_every_flipped_octet_is_noticed(tmp_path: Path) -> None:
    path = await save(tmp_path / "snapshot")
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (1, 128):
            damaged = bytearray(whole)
            damaged[place] ^= bit
            path.write_bytes(damaged)
            assert refused(path).reason in {"damaged", "version"}


async def test_every_length_but_the_whole_is_refused(tmp_path: Path) -> None:
    path = await save(tmp_path / "snapshot")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert refused(path).reason == "damaged"
    path.write_bytes(whole + b"\0")
    assert "the checksum is wrong" in str(refused(path))


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", struct.pack(">I", 9) + b"\x80", struct.pack(">I", 1) + b"\xc1", b"\0\0\0", b"\0" * 4],
)
async def test_a_right_checksum_does_not_excuse_a_wrong_form(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "snapshot"
    head = b"mcsdns-snapshot\n" + struct.pack(">I", 1)
    body = head + content
    path.write_bytes(body + _digest(body))
    assert refused(path).reason == "damaged"


def part(octets: bytes) -> bytes:
    return struct.pack(">I", len(octets)) + octets


@pytest.mark.parametrize("depth", [500, 200_000, 5_000_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1x"])
@pytest.mark.parametrize("key", [b"\xa1x", b"\xa7objects"])
async def test_nesting_without_end_ends_nothing(
    tmp_path: Path, depth: int, opening: bytes, key: bytes
) -> None:
    body = (await save(tmp_path / "zone")).read_bytes()[:-32]
    start = body[:20]
    (length,) = struct.unpack(">I", body[20:24])
    header, rest = body[24 : 24 + length], body[24 + length :]
    nested = key + depth * opening + b"\xc0"
    deep = bytes([header[0] + 1]) + header[1:] + nested
    path = tmp_path / "deep"
    for octets in (
        start + part(deep) + rest,
        start + part(header) + part(b"\x82" + rest[5:] + nested),
    ):
        path.write_bytes(octets + hashlib.sha256(octets).digest())
        with contextlib.suppress(SnapshotError):  # what is unknown may also be skipped
            assert load(path).objects == WORLD


@pytest.mark.parametrize("error", [RecursionError(), MemoryError(), OverflowError("large")])
async def test_whatever_a_decoder_raises_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    class Broken:
        def decode(self, _: object) -> object:
            raise error

    path = await save(tmp_path / "zone")
    monkeypatch.setattr(snapshot, "_chunk_decoder", Broken())
    assert refused(path).reason == "damaged"


@pytest.mark.parametrize("name", ["a" * 80, "x.y", "nul\0", "line\n\x1b[31m", ""])
@pytest.mark.parametrize("field", ["name", "namespace"])
async def test_names_that_no_api_server_lets_through_are_refused(
    tmp_path: Path, name: str, field: str
) -> None:
    odd = msgspec.structs.replace(WORLD[0], **{field: name})
    path = await save(tmp_path / "zone", [odd, *WORLD])
    told = refused(path)
    assert told.reason == "damaged"
    assert str(told).isprintable()


IMPORT, SLICE = WORLD[0], WORLD[2]
UNSOUND = [
    (IMPORT, {"namespace": "läden"}),
    (IMPORT, {"name": "a" * 64}),
    (IMPORT, {"ips": (b"12345",)}),
    (IMPORT, {"ports": (Port("http", "tcp", 70000),)}),
    (IMPORT, {"ports": (Port("http", "a" * 63, 80),)}),
    (SLICE, {"service": ""}),
    (SLICE, {"cluster": "öst"}),
    (SLICE, {"cluster": "a.b.c"}),
    (SLICE, {"endpoints": (Endpoint((b"1234",), "a.b", True, None, None, "", ""),)}),
    (SLICE, {"endpoints": (Endpoint((b"",), "a", True, None, None, "", ""),)}),
]


@pytest.mark.parametrize(("thing", "changed"), UNSOUND)
async def test_an_object_that_no_decoder_makes_is_damage(
    tmp_path: Path, thing: Object, changed: dict[str, Any]
) -> None:
    path = await save(tmp_path / "snapshot", [*WORLD, msgspec.structs.replace(thing, **changed)])
    assert refused(path).reason == "damaged"


async def test_objects_that_are_missing_are_noticed_by_their_number(tmp_path: Path) -> None:
    path = await save(tmp_path / "snapshot", WORLD[:1])
    whole = path.read_bytes()
    (header,) = struct.unpack_from(">I", whole, 20)
    body = whole[: 24 + header]
    path.write_bytes(body + _digest(body))
    assert "the number of objects is wrong" in str(refused(path))


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


async def test_a_later_format_says_so(tmp_path: Path) -> None:
    path = await save(tmp_path / "snapshot")
    content = bytearray(path.read_bytes())
    content[19] = 2
    path.write_bytes(content)
    assert "its format is version 2, this mcsdns reads version 1" in str(refused(path))


def test_another_file_is_no_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_text("apiVersion: v1\n" * 10)
    assert "it is not a snapshot of mcsdns" in str(refused(path))


def test_a_missing_one_says_so(tmp_path: Path) -> None:
    assert refused(tmp_path / "snapshot").reason == "missing"


def test_folders_and_pipes_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert "it is not a regular file" in str(refused(path))


async def test_a_file_above_the_limit_is_neither_read_nor_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await save(tmp_path / "snapshot")
    before = path.read_bytes()
    monkeypatch.setattr(snapshot, "MOST_BYTES", len(before) - 1)
    with pytest.raises(SnapshotError, match=f"octets, more than {len(before) - 1};"):
        load(path)
    with pytest.raises(SourceError, match="larger than the 0 MiB that a start reads"):
        await save(path)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("as_nobody")
def test_a_file_that_may_not_be_read_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "locked"  # whose folder is for its owner alone
    assert refused(path).reason == "unreadable"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"server": "https://b:6443"},
            "its API server is https://api.example:6443, and https://b:6443 here",
        ),
        ({"ca": ""}, "its certificate authority is ab12, and (none) here"),
        ({"namespaces": ("shop", "x")}, "its list of namespaces is shop, and shop, x here"),
        ({"import_selector": ""}, "its import selector is team=a, and (none) here"),
        ({"slice_profile": "slices"}, "its slice profile is spec, and slices here"),
        ({"zones": ("a.", "b.")}, "its list of zones is clusterset.local, and a., b. here"),
    ],
)
async def test_a_snapshot_of_something_else_names_the_difference(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    path = await save(tmp_path / "snapshot")
    error = refused(path, identity=msgspec.structs.replace(HERE, **change))
    assert error.reason == "identity"
    assert why in str(error)


def test_every_field_of_an_identity_is_compared() -> None:
    fields = {field.name for field in msgspec.structs.fields(SnapshotIdentity)}
    assert fields == set(snapshot.IDENTITY_WORDS)


@pytest.mark.parametrize(
    ("age_s", "why"),
    [
        (DAY_S + 1, "it is 24 h old, more than 24 h"),
        (2.5 * DAY_S, "it is 2.5 d old, more than 24 h"),
        (-DAY_S - 1, "it is from 24 h ahead of this clock, more than 24 h"),
    ],
)
async def test_what_is_too_old_or_from_the_future_is_refused(
    tmp_path: Path, age_s: float, why: str
) -> None:
    path = await save(tmp_path / "snapshot")
    error = refused(path, now_s=AS_OF_S + age_s)
    assert error.reason == "age"
    assert why in str(error)


@pytest.mark.parametrize("age_s", [0.0, DAY_S, -DAY_S])
async def test_what_is_just_young_enough_is_read(tmp_path: Path, age_s: float) -> None:
    assert load(await save(tmp_path / "snapshot"), now_s=AS_OF_S + age_s).objects == WORLD


async def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = await save(tmp_path / "snapshot")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_nothing_is_left_beside_it(tmp_path: Path) -> None:
    left_over = tmp_path / ".snapshot.x8f.tmp"
    left_over.write_bytes(b"half")
    (tmp_path / ".other.x8f.tmp").touch()
    await save(tmp_path / "snapshot")
    await save(tmp_path / "snapshot")
    assert names_in(tmp_path) == [".other.x8f.tmp", "snapshot"]


async def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data" / "snapshot")
    await save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "data" / "snapshot").objects == WORLD


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Nothing that was written can be synced."""

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        yield


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file grows beyond 10 octets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("failing", "why"),
    [(full_disk, "No space left on device"), (small_files, "File too large")],
)
async def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, failing: Callable[[], AbstractContextManager[None]], why: str
) -> None:
    path = await save(tmp_path / "snapshot")
    with failing(), pytest.raises(SourceError) as caught:
        await save(path, WORLD[:1])
    assert str(caught.value) == (
        f"snapshot {path}: {why}, it is not written and what was there stays; "
        "name a file in a folder that exists, can be written to and has room"
    )
    assert load(path).objects == WORLD
    assert names_in(tmp_path) == ["snapshot"]


async def test_a_cancelled_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = await save(tmp_path / "snapshot")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await save(path, WORLD[:1])
    assert load(path).objects == WORLD
    assert names_in(tmp_path) == ["snapshot"]


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("none/snapshot", "No such file or directory"),
        ("folder", "it is not a regular file"),
        ("file/snapshot", "Not a directory"),
    ],
)
async def test_a_place_that_cannot_be_written_says_why(
    tmp_path: Path, place: str, why: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=why):
        await save(tmp_path / place)


@pytest.mark.usefixtures("as_nobody")
async def test_a_folder_that_may_not_be_written_says_so() -> None:
    with pytest.raises(SourceError, match="Permission denied"):
        await save(Path("/etc/snapshot"))
