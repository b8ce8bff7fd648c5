"""Runs an image as a container runtime would, with what the kernel has: namespaces and chroot.

As in a pod that is `restricted`: root file system read-only, the image's user, no capability, no
new privileges, mcsdns as process 1, and HOME as runtimes set it for a user who is not in
/etc/passwd. With a network of its own unless told otherwise.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.image.build import Image
from tests.waiting import DEADLINE_S, wait_until

SETUP = """
set -eu
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=755 none "$ROOT/dev"
for each in null zero random urandom; do
  touch "$ROOT/dev/$each"; mount --bind "/dev/$each" "$ROOT/dev/$each"
done
mount -t tmpfs -o mode=755 none "$ROOT/mnt"
mkdir "$ROOT/mnt/given" "$ROOT/mnt/scratch"
chown "$OWNER" "$ROOT/mnt/scratch"
mount --bind "$GIVEN" "$ROOT/mnt/given"
mount -o remount,bind,ro "$ROOT"
ip link set lo up 2>/dev/null || true
exec "$@"
"""
NEEDED_TO_ENTER = "-all,+setuid,+setgid,+sys_chroot"


class Container:
    """One container: `given` is a folder of ours that it sees at /mnt/given.

    /mnt/scratch is the one place where it may write.
    """

    def __init__(self, image: Image, given: Path, *, own_network: bool = True) -> None:
        self._image = image
        self._given = given
        self._spaces = ["--net"] if own_network else []
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> "Container":
        """Run the entry point with these arguments, or those of the image."""
        command = self._image.config["Entrypoint"] + list(arguments or self._image.config["Cmd"])
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *self._spaces]
        setup = {
            "ROOT": str(self._image.root),
            "OWNER": self._image.config["User"],
            "GIVEN": str(self._given),
        }
        with Path(self._log).open("wb") as log:
            self._process = subprocess.Popen(
                [*spaces, "sh", "-c", SETUP, "sh", *self._enter(command, env or {})],
                env={**os.environ, **setup},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command beside process 1, as `docker exec` does."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid"]
        words = [*enter, *self._enter(list(command), {})]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def ask(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of this machine in the network of the container."""
        words = ["nsenter", f"--target={self.pid}", "--net", *command]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def wait_ready(self) -> "Container":
        self.wait_log("ready: ")
        assert not self._ended(), self.log
        return self

    def wait_log(self, text: str) -> None:
        """Wait until something is said; an end is the end of waiting too."""
        try:
            wait_until(lambda: text in self.log or self._ended(), text)
        except AssertionError as error:
            raise AssertionError(f"{error}; the log: {self.log}") from None

    def end(self) -> int:
        """Send process 1 what the image says stops it, and return its status."""
        assert self._process is not None, "it does not run"
        if not self._ended():
            os.kill(self.pid, signal.Signals[self._image.config["StopSignal"]])
        return self._process.wait(DEADLINE_S)

    def close(self) -> None:
        """End it in any case."""
        if self._process is not None and not self._ended():
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """Process 1 of the container, by our count."""
        assert self._process is not None, "it does not run"
        parent = self._process.pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])

    @property
    def log(self) -> str:
        return Path(self._log).read_text()

    @property
    def _log(self) -> str:
        return f"{self._folder.name}/log"

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _enter(self, command: list[str], env: Mapping[str, str]) -> list[str]:
        variables = ["HOME=/", *self._image.config["Env"], *(f"{key}={env[key]}" for key in env)]
        user = self._image.config["User"]
        return [
            *("/usr/bin/env", "-i", *variables),
            *("/usr/bin/setpriv", "--no-new-privs", "--inh-caps=-all"),
            f"--bounding-set={NEEDED_TO_ENTER}",
            *("/usr/sbin/chroot", f"--userspec={user}", "--groups=", str(self._image.root)),
            *command,
        ]
