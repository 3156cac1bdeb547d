"""Small files that exist only while a host runs, such as its socket, in a folder that only this user can open."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_FOLDER = "agentq"
_LONGEST_SOCKET = 103
"""Bytes of a Unix socket's path: Linux takes 107, macOS 103."""


def runtime_folders(environ: Mapping[str, str]) -> list[Path]:
    """Return the folders that may be used, the preferred one first: in ``$XDG_RUNTIME_DIR``, in Jupyter's runtime folder."""
    parents = [environ.get("XDG_RUNTIME_DIR"), _runtime_of_jupyter(environ)]
    return [Path(parent) / _FOLDER for parent in parents if parent and os.path.isabs(parent)]


def _runtime_of_jupyter(environ: Mapping[str, str]) -> str:
    """Return Jupyter's runtime folder, as jupyter-core finds it. Importing that would take longer than all else here."""
    if runtime := environ.get("JUPYTER_RUNTIME_DIR"):
        return runtime
    if data := environ.get("JUPYTER_DATA_DIR"):
        return os.path.join(data, "runtime")
    home = os.path.expanduser("~")
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Jupyter", "runtime")
    return os.path.join(environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share"), "jupyter", "runtime")


def runtime_name(store: Path) -> str:
    """Return the name that the files of a store's host begin with: short, and another one on each machine.

    Home folders are shared between machines, and containers have the same paths.
    """
    return hashlib.sha256(f"{os.uname().nodename}\0{store}".encode("utf-8", "surrogateescape")).hexdigest()[:20]


def socket_fits(path: Path) -> bool:
    """Whether a Unix socket's path may be so long."""
    return len(os.fsencode(path)) <= _LONGEST_SOCKET


def secret_of(socket: Path) -> Path:
    """Return the path of the file with the secret that a socket demands."""
    return socket.with_suffix(".secret")


def make_private_folder(folder: Path) -> None:
    """Make a folder that only this user can open, or check one. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    check_owner(folder)
    if os.stat(folder).st_mode & 0o077:
        os.chmod(folder, 0o700)


def check_owner(path: Path) -> os.stat_result:
    """Return facts about a file or folder of this user that is no link. Raises OSError."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(f"{path} is a link")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    return found


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, in place of one that may be there. Raises OSError."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def read_private(path: Path) -> str:
    """Return the text of a file of this user that no other can read. Raises OSError."""
    if stat.S_IMODE(check_owner(path).st_mode) & 0o077:
        raise PermissionError(f"{path} can be read by other users")
    return path.read_text()
