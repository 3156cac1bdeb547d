"""The folder that the store is in: an ordinary one, or a small disk of its own that can be full."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

_SIZE = 48 << 20


class CannotMount(Exception):
    """A small disk needs the right to mount: run as root, or allow user namespaces."""


class Disk:
    """An ordinary folder."""

    def __init__(self, folder: Path) -> None:
        self.seen = folder
        """The folder as this process reaches it."""
        folder.mkdir()

    def command(self, command: list[str]) -> list[str]:
        """How the command is run, so that it finds the disk at its place."""
        return command

    def fill(self, left: int) -> None:
        """Let only so many bytes be free."""
        raise NotImplementedError

    def free(self) -> None:
        """Take away what fills it."""

    def close(self) -> None:
        """Nobody uses it any more."""


class SmallDisk(Disk):
    """A file system in memory, mounted in a namespace of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
        mount = f'mount -t tmpfs -o size={_SIZE} tmpfs "$0" && echo mounted && exec cat'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", *user, "sh", "-c", mount, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self.close()
            raise CannotMount(CannotMount.__doc__)
        self._enter = ["nsenter", f"--target={self._holder.pid}", "--mount", *(["--user"] if user else []), "--"]
        self.seen = Path(f"/proc/{self._holder.pid}/root{folder}")
        self._filler = self.seen / "filler"

    def command(self, command: list[str]) -> list[str]:
        return [*self._enter, *command]

    def fill(self, left: int) -> None:
        disk = os.statvfs(self.seen)
        size = max(0, disk.f_bavail * disk.f_frsize - left)
        with open(self._filler, "wb") as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, size) if size else None

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait()
