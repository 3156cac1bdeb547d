"""Errors of opening a log, for users: the obstacle, and what to do about it."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import duckdb

from agentq_nb._store import schema
from agentq_nb.errors import StoreError, StoreInUse, StoreReadOnly

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXT = re.compile(r"No space left|[Qq]uota|File too large")
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_DENIED_TEXT = re.compile(r"[Pp]ermission|[Rr]ead-only")
_ALWAYS_NEEDED = 2 << 20


def cannot_open(path: Path, error: OSError | duckdb.Error) -> StoreError:
    """Return the error to raise when the log at ``path`` cannot be opened because of ``error``."""
    text = str(error).partition("\n")[0]
    if isinstance(error, duckdb.Error):
        if "different configuration" in text:
            return StoreInUse(
                f"{path} is open in this very process, by other code that uses duckdb. Close it there first."
            )
        if is_lock_conflict(error):
            return held_by_other(path, error)
    if is_full(error):
        return no_room(path, f"{path} cannot be opened", error, bytes_to_open(path))
    number = error.errno if isinstance(error, OSError) else None
    if number in _DENIED or (number is None and _DENIED_TEXT.search(text)):
        return StoreReadOnly(
            f"{path} cannot be written: {text}. Choose a file in a folder that can be written with store=PATH "
            f"(%agentq start --store PATH).",
            metadata={"path": str(path)},
        )
    return StoreError(
        f"{path} cannot be opened: {text}. Repair the disk or the folder and try again, or choose another file with "
        f"store=PATH (%agentq start --store PATH).",
        metadata={"path": str(path)},
    )


def is_full(error: Exception) -> bool:
    """Whether the disk, the user's quota, or a file's size has reached its limit."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return bool(_FULL_TEXT.search(str(error)))


def no_room(path: Path, what: str, error: Exception, needed: int) -> StoreError:
    """Return the error for something that cannot be done for lack of space."""
    said = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).partition("\n")[0]
    return StoreError(
        f"{what}: {said}. Nothing is lost. Make room for {needed:,} bytes in {path.parent}, and try again.",
        code="disk_full",
        metadata={"path": str(path), "bytes": needed},
    )


def bytes_to_open(path: Path) -> int:
    """Return the most bytes that opening the log takes: for rows moved into the database, and for copies of files."""
    return _ALWAYS_NEEDED + sum(2 * file.stat().st_size for file in schema.files_of(path)[1:] if file.is_file())


def is_lock_conflict(error: duckdb.Error) -> bool:
    """Whether DuckDB could not lock the file."""
    return "Could not set lock" in str(error)


def held_by_other(path: Path, error: duckdb.Error) -> StoreInUse:
    """Return the error for a database that is open in a program that does not use guards."""
    found = re.search(r"PID (\d+)", str(error))
    who = f"process {found[1]}" if found else "another program"
    return StoreInUse(
        f"{path} is open in {who}. Close it there first.",
        metadata={"holder": {"pid": int(found[1])} if found else {}, "path": str(path)},
    )
