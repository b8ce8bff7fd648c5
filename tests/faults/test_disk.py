"""A disk that is full: of the snapshot, of the manifests, of the log."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import Serve, ServeProcess, addresses, ask
from tests.faults.conftest import WEB, WEB_ADDRESS, scripted, web
from tests.faults.table import row
from tests.scripted import Plain
from tests.waiting import TRY_S, free_port, wait_until


class Disk:
    """A small file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / ".filler"

    def fill(self) -> None:
        """Leave no octet."""
        with open(self._filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                return

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("no small file system can be mounted: that wants root and mount")
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted: {done.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_no_room_for_the_snapshot(serve: Serve, disk: Disk, tmp_path: Path) -> None:
    fault = row("the disk of the snapshot is full")
    snapshot = disk.folder / "snapshot"
    kubeconfig = tmp_path / "kubeconfig"
    given = ("--kubeconfig", kubeconfig, "--snapshot", snapshot)
    with scripted("127.0.0.1") as api:
        api.api.write_kubeconfig(kubeconfig)
        serve(*given).end()
        before = snapshot.read_bytes()
        disk.fill()
        server = serve(*given)
        api.put(web("new", "10.0.0.2"))
        server.wait_for("new.shop", ["10.0.0.2"])
        for line in fault.lines:
            server.wait_log(line)
        assert snapshot.read_bytes() == before
        assert sorted(each.name for each in disk.folder.iterdir()) == [".filler", "snapshot"]
        disk.free()
        assert server.end() == 0
        assert snapshot.read_bytes() != before
    serve(*given).wait_for("new.shop", ["10.0.0.2"])  # from the snapshot alone


def test_no_room_for_manifests(serve: Serve, disk: Disk) -> None:
    fault = row("the disk of the manifests is full")
    path = disk.folder / "services.json"
    path.write_text(as_json(web(), web("other", "10.0.0.2")))
    server = serve("--manifests", disk.folder)
    text = as_json(web("web", "10.0.0.3"), *(web(f"more-{n}", "10.0.0.4") for n in range(1000)))
    assert len(text) > 1 << 16
    with pytest.raises(OSError, match="No space"):
        path.write_text(text)  # as editors and `cp` do: what fits is there, and then no more
    server.wait_log(fault.lines[0])
    server.wait_for("web.shop", ["10.0.0.3"])
    server.wait_for("other.shop", ["10.0.0.2"])
    path.write_bytes(b"")
    server.wait_log(fault.lines[1])
    server.wait_for("web.shop", ["10.0.0.3"])
    path.write_text(as_json(web("web", "10.0.0.6")))
    server.wait_for("web.shop", ["10.0.0.6"])
    server.wait_for("other.shop", [])


def as_json(*things: Plain) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": things})


def test_no_room_for_the_log(serve: Serve, disk: Disk, tmp_path: Path) -> None:
    assert not row("the disk of the log is full").lines
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "web.yaml").write_text(yaml.safe_dump(web()))
    serve("--manifests", folder)  # the bytecode is there, and where it cannot be written is no news
    flags = ["--manifests", str(folder), "--listen", "127.0.0.1:0", "--query-log", "1"]
    process = ServeProcess(disk.folder, flags)
    try:
        process.wait_ready()
        disk.fill()
        written = process.log
        process.wait_for("web.shop", [WEB_ADDRESS])
        (folder / "bad.yaml").write_text("no: [yaml")
        (folder / "new.yaml").write_text(yaml.safe_dump(web("new", "10.0.0.2")))
        process.wait_for("new.shop", ["10.0.0.2"])
        assert len(process.log) - len(written) < 4096
        disk.free()
        process.process.send_signal(signal.SIGHUP)
        process.wait_log("settings")
        process.wait_for("new.shop", ["10.0.0.2"])
    finally:
        assert process.end() == 0


def test_no_room_for_the_first_line(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(yaml.safe_dump(web()))
    disk.fill()
    address = ("127.0.0.1", free_port())
    flags = ["--manifests", str(path), "--listen", f"{address[0]}:{address[1]}"]
    process = ServeProcess(disk.folder, flags)
    try:
        wait_until(lambda: addresses_of(address) == [WEB_ADDRESS], "an answer")
        assert not process.out
    finally:
        assert process.end() == 0


def addresses_of(address: tuple[str, int]) -> list[str]:
    try:
        return addresses(ask(address, WEB, timeout_s=TRY_S))
    except OSError:
        return []
