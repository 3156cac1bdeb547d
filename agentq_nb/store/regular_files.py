"""Names beside a log that must be regular files, or not be there: a pipe would be waited for, a folder never goes."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from agentq_nb.errors import StoreError
from agentq_nb.store.schema import files_of

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_names(database: Path) -> None:
    """Raise StoreError where something that is no regular file has the name of a file of a log. Opens none of them."""
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
