"""File system checks: folders unsafe for a database (network, synchronised), and files that were moved or deleted."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from agentq_nb._store.schema import files_of
from agentq_nb.errors import StoreError

_NETWORK = re.compile(
    r"^(nfs\d?|cifs|smb\d?|smbfs|afpfs|afs|9p|ceph|glusterfs|lustre|webdav|davfs2?|fuse\.(sshfs|rclone|s3fs|gcsfuse|davfs2?|glusterfs))$"
)
_SYNCHRONISED = (
    ("iCloud", re.compile(r"/Library/Mobile Documents(/|$)")),
    ("OneDrive", re.compile(r"/OneDrive( ?- ?[^/]+)?(/|$)|/Library/CloudStorage/OneDrive[^/]*(/|$)")),
    ("Dropbox", re.compile(r"/Dropbox( \([^/]+\))?(/|$)|/Library/CloudStorage/Dropbox[^/]*(/|$)")),
    ("Google Drive", re.compile(r"/(Google Drive|GoogleDrive[^/]*|My Drive)(/|$)")),
)


def warn_about(folder: Path) -> str | None:
    """Return one sentence if a log should not be kept in ``folder``, else None."""
    what = synchronised_by(folder)
    if what is None:
        kind = network_kind(folder)
        what = f"on a network file system ({kind})" if kind else None
    else:
        what = f"synchronised by {what}"
    if what is None:
        return None
    return (
        f"{folder} is {what}: locks and writes are not reliable there. "
        f"Keep the queues in a local file with store=PATH (%agentq start --store PATH)."
    )


def synchronised_by(folder: Path) -> str | None:
    """Return the program that synchronises this folder, by the folder's well-known name."""
    return next((name for name, pattern in _SYNCHRONISED if pattern.search(str(folder))), None)


def network_kind(folder: Path, mounts: str | None = None) -> str | None:
    """Return the network file system this folder is on, from the mount table; None if it is on none."""
    text = _mounts() if mounts is None else mounts
    inside = [(point, kind) for point, kind in _parse(text) if folder == point or point in folder.parents]
    if not inside:
        return None
    _, kind = max(inside, key=lambda mount: len(mount[0].parts))
    return kind if _NETWORK.match(kind) else None


def _mounts() -> str:
    if sys.platform == "linux":
        try:
            return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    try:
        return subprocess.run(["/sbin/mount"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _parse(text: str) -> list[tuple[Path, str]]:
    """Return mount points and kinds: ``device point kind …`` on Linux, ``device on point (kind, …)`` on macOS."""
    mounts: list[tuple[Path, str]] = []
    for line in text.splitlines():
        if found := re.match(r"^.+? on (/.*) \((\w+)[,)]", line):
            mounts.append((Path(found[1]), found[2]))
        elif len(fields := line.split(" ")) >= 3:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
            mounts.append((Path(point), fields[2]))
    return mounts


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_names(database: Path) -> None:
    """Raise StoreError where a log's file name is taken by something other than a regular file. Opens none of them."""
    beside = (".guard", ".wal.kept", ".wal.kept.new", ".journal.new", ".checkpoint.new", ".new", ".rebuilt")
    _check_regular([*files_of(database), *(database.with_name(database.name + suffix) for suffix in beside)])


def _check_regular(paths: Iterable[Path]) -> None:
    for path in paths:
        what = _what_else(path)
        if what is not None:
            raise StoreError(
                f"{path} is {what}, and a regular file is expected there. Choose another file with store=PATH "
                f"(%agentq start --store PATH), or move away what is there.",
                code="not_a_file",
                metadata={"path": str(path)},
            )


def _what_else(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a symbolic link that leads to no file" if path.is_symlink() else None
    if stat.S_ISREG(mode):
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")


def size_of(path: Path) -> int:
    """Return a file's bytes; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


_LOOK_EVERY = 2.0
"""Seconds between checks. One costs some calls of ``stat``, and a dashboard asks for the status ten times a second."""


class OpenFiles:
    """The files of an open log, each by its path and its open descriptor.

    No file is opened here: closing any descriptor of the database releases DuckDB's lock.
    """

    def __init__(
        self, database: Path, descriptor: int, others: Mapping[Path, int], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._descriptor = descriptor
        self._others = others
        self._now = now
        self._looked_at = float("-inf")
        self._seen: str | None = None

    def trouble(self) -> str | None:
        """Return what happened to the files, and what to do; at most two seconds old."""
        if self._now() - self._looked_at >= _LOOK_EVERY:
            self._seen, self._looked_at = self._look(), self._now()
        return self._seen

    def _look(self) -> str | None:
        database = _fate(self._database, self._descriptor)
        if database is not None:
            return (
                f"{self._database} was {database} while it is in use. Its work continues in that file, but "
                f"nobody finds it after a crash. Write a copy now: %agentq export PATH"
            )
        gone = [f"{path.name} was {fate}" for path, file in self._others.items() if (fate := _fate(path, file))]
        if not gone:
            return None
        return (
            f"{' and '.join(gone)} while {self._database} is in use. A crash now could lose the last messages. "
            "Stop and start the host: it makes the file again."
        )

    def loss(self) -> str | None:
        """Return what closing the log now would lose; None when the files are in place."""
        fate = _fate(self._database, self._descriptor)
        if fate is None:
            return None
        if _is_deleted(self._descriptor):
            return (
                f"{self._database} was {fate} while it was in use: everything in it, finished and unfinished messages, "
                "went with it at this stop, but for copies that were written by %agentq export."
            )
        return (
            f"{self._database} was {fate} while it was in use: all of its messages are in that file. "
            "To use them, move it back before the next start."
        )


def _fate(path: Path, descriptor: int) -> str | None:
    """Return what happened to the file opened at ``path``; None: it is in place, or cannot be checked."""
    try:
        opened = os.fstat(descriptor)
    except OSError:  # the descriptor was closed
        return None
    try:
        if os.path.samestat(os.stat(path), opened):
            return None
    except FileNotFoundError:
        pass
    except OSError:
        return None
    if not opened.st_nlink:
        return "deleted"
    try:
        return f"moved to {os.readlink(f'/proc/self/fd/{descriptor}')}"
    except OSError:
        return "moved"


def _is_deleted(descriptor: int) -> bool:
    return not os.fstat(descriptor).st_nlink
