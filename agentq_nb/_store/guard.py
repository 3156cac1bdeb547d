"""The guard: a small file beside the log that locks it and records what it must contain.

The lock is our own, on a separate file: DuckDB's lock on the database is a POSIX lock, which a process loses as soon as
it closes any other descriptor of that file. The guard also records the holder of the log, the schema version, the
file's state after a clean close, and the *mark*: the last committed sequence number. The mark is written after each
commit without fsync, so it may lag behind the log, but is never ahead.

Layout: facts (a checksum, one line of JSON, spaces) in the first 4096 bytes, then two marks in sectors of their own,
written in turn, so that a torn write spoils at most one of them.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentq_nb._store.filesystem import check_names
from agentq_nb._store.open_errors import bytes_to_open, is_full, no_room
from agentq_nb._store.store_paths import check_path
from agentq_nb.errors import StoreError, StoreInUse, StoreReadOnly

_FACTS_BYTES = 4096
_MARK_OFFSETS = (4096, 4608)
_MARK_BYTES = 30
_FILE_BYTES = 5120


_held: set[tuple[int, int]] = set()
"""The files this process has open. Two names (hard links) of one file have two guards, but are one database."""


class Guard:
    """The guard of one log, locked while this object exists. Made only by :meth:`acquire`."""

    def __init__(self, path: Path, database: Path, descriptor: int, created: bool) -> None:
        self.path = path
        self._database = database
        self._file: tuple[int, int] | None = None
        self.created = created
        """Whether there was no guard before."""
        self._descriptor = descriptor
        self._turn = 0
        content = os.pread(descriptor, _FILE_BYTES, 0)
        facts = _read_facts(content)
        self.readable = facts is not None
        """Whether the facts exist and are undamaged."""
        self.facts: dict[str, Any] = facts or {}
        self.identity: dict[str, Any] = {key: self.facts[key] for key in ("schema", "store") if key in self.facts}
        """The id of the guarded log, and the version of its schema."""
        marks = [mark for offset in _MARK_OFFSETS if (mark := _read_mark(content, offset)) is not None]
        self.mark: int | None = max(marks, default=None)
        """The last sequence number known to be committed; None: not known."""

    @property
    def descriptor(self) -> int:
        """The file's descriptor."""
        return self._descriptor

    @property
    def database(self) -> Path:
        """The file that it guards."""
        return self._database

    @classmethod
    def acquire(cls, database: Path) -> Guard:
        """Lock the guard of ``database``, creating it when it is missing.

        Raises StoreInUse naming the holder, StoreReadOnly, StoreError.
        """
        check_path(database)
        path = guard_of(database)
        while True:
            check_names(database)
            descriptor, created = _open_or_create(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still(path, descriptor):
                    guard = cls(path, database, descriptor, created)
                    break
            except BlockingIOError:
                facts = _facts_of(descriptor)
                os.close(descriptor)
                raise _in_use(database, facts.get("holder")) from None
            except OSError as error:
                os.close(descriptor)
                raise StoreError(
                    f"{path} cannot be locked or read: {error.strerror or error}. Choose a file on a local disk with "
                    f"store=PATH (%agentq start --store PATH).",
                    metadata={"path": str(path)},
                ) from error
            # Another process removed it between our open and our lock: the locked file is no longer the guard.
            os.close(descriptor)
        if _identity(database) in _held:
            guard.withdraw()
            raise _in_use(database, {"pid": os.getpid()})
        return guard

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Replace the facts, durably."""
        self.facts = dict(facts)
        text = json.dumps(self.facts, separators=(",", ":"), default=str).encode()
        if len(text) > _FACTS_BYTES - 10:
            self.facts["holder"] = {"pid": os.getpid()}
            text = json.dumps(self.facts, separators=(",", ":"), default=str).encode()
        line = b"%08x %b\n" % (zlib.crc32(text), text)
        _write_all(self._descriptor, line.ljust(_FACTS_BYTES, b" "), 0)
        self.readable = True
        self.sync()

    def write_mark(self, sequence: int) -> None:
        """Record that everything up to ``sequence`` is committed. Takes microseconds; not durable by itself."""
        self._turn ^= 1
        _write_all(self._descriptor, _mark_line(sequence), _MARK_OFFSETS[self._turn])
        self.mark = sequence

    def write_both_marks(self, sequence: int) -> None:
        """Write the mark in both places, so that damage to one of them loses nothing."""
        self.write_mark(sequence)
        self.write_mark(sequence)

    def sync(self) -> None:
        """Return when facts and mark are durable."""
        os.fsync(self._descriptor)

    def sign_on(self, last: int, holder: Mapping[str, Any]) -> None:
        """Record who holds the log from now on, and that it is not closed any more."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.write_both_marks(last)
        self.write_facts(self.identity | {"holder": {"pid": os.getpid(), "started": started, **holder}})
        self.claim()

    def claim(self) -> None:
        """Record that this process has the database open: the guard file stays, and no other name can open the file."""
        self.created = False
        self._file = _identity(self._database)
        if self._file is not None:
            _held.add(self._file)

    def expect(self, sequence: int) -> None:
        """Record, durably, that everything up to ``sequence`` was committed once; the guard file stays from now on."""
        self.created = False
        self.write_both_marks(max(sequence, self.mark or 0))
        self.sync()

    def release(self) -> None:
        """Release the lock; the file stays."""
        if self._file is not None:
            _held.discard(self._file)
        os.close(self._descriptor)

    def withdraw(self) -> None:
        """Release the lock, and remove the file if it was created by :meth:`acquire`."""
        if self.created:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self.release()


def guard_of(database: Path) -> Path:
    """Return the path of a database's guard."""
    return database.with_name(database.name + ".guard")


def holder_of(database: Path) -> dict[str, Any]:
    """Return what the last holder of a database wrote about itself, whether it still runs or not; empty if unknown."""
    try:
        descriptor = os.open(guard_of(database), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return {}
    try:
        return dict(_facts_of(descriptor).get("holder") or {})
    finally:
        os.close(descriptor)


def _open_or_create(path: Path) -> tuple[int, bool]:
    # Without the last flag, opening a pipe that appears under the name would block.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        with suppress(FileNotFoundError):
            return os.open(path, flags), False
        with suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600), True
        return os.open(path, flags), False
    except FileNotFoundError:
        raise StoreError(
            f"The folder {path.parent} does not exist, so the queues cannot be kept there. "
            f"Create it, or choose another file with store=PATH (%agentq start --store PATH)."
        ) from None
    except OSError as error:
        if is_full(error):
            raise no_room(path, f"{path} cannot be made", error, bytes_to_open(path)) from error
        raise read_only(path.parent, error) from error


def read_only(folder: Path, error: OSError) -> StoreError:
    """Return the error for a folder that cannot be written."""
    return StoreReadOnly(
        f"The queues cannot be kept in {folder}: {error.strerror or error}. "
        f"Choose a file in a folder that can be written with store=PATH (%agentq start --store PATH).",
        metadata={"folder": str(folder)},
    )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:  # missing, or inaccessible: opening it reports that
        return None
    return found.st_dev, found.st_ino


def _is_still(path: Path, descriptor: int) -> bool:
    ours = os.fstat(descriptor)
    return _identity(path) == (ours.st_dev, ours.st_ino)


def _in_use(database: Path, holder: Mapping[str, Any] | None) -> StoreInUse:
    known = dict(holder or {})
    pid = known.get("pid")
    who = "another process" if pid is None else "this very process" if pid == os.getpid() else f"process {pid}"
    notebook = f", notebook {known['notebook']}" if known.get("notebook") else ""
    since = f", since {known['started']}" if known.get("started") else ""
    listens = known.get("socket") and pid != os.getpid()
    return StoreInUse(
        f"{database} is in use by {who}{notebook}{since}.{_ways_to_use(database) if listens else ''} "
        f"Stop that one first, or choose another file with store=PATH (%agentq start --store PATH).",
        metadata={"holder": known, "path": str(database)},
    )


def _ways_to_use(database: Path) -> str:
    """Return the lines that use the host of a database as it runs, in a sentence."""
    path = shlex.quote(str(database))
    return (
        f" You can use it as it runs: agentq status --store {path} in a shell (or send, ask, results, show, pause, resume, "
        f"retry, watch), %agentq connect {path} in a notebook, create_client(store={str(database)!r}) in Python."
    )


def _facts_of(descriptor: int) -> dict[str, Any]:
    """Return the facts in a guard that another process holds; empty when they cannot be read."""
    with suppress(OSError):
        return _read_facts(os.pread(descriptor, _FILE_BYTES, 0)) or {}
    return {}


def _read_facts(content: bytes) -> dict[str, Any] | None:
    line = content[:_FACTS_BYTES].partition(b"\n")[0]
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        facts: Any = json.loads(text)
    except ValueError:  # an empty line has the checksum 0
        return None
    return facts if isinstance(facts, dict) else None  # pyright: ignore[reportUnknownVariableType]  # JSON


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of it, even if the system writes only a part at a time, as it does before a disk is full."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def _mark_line(sequence: int) -> bytes:
    digits = b"%020d" % sequence
    return b"%b %08x\n" % (digits, zlib.crc32(digits))


def _read_mark(content: bytes, offset: int) -> int | None:
    line = content[offset : offset + _MARK_BYTES]
    digits = line[:20]
    return int(digits) if digits.isdigit() and line == _mark_line(int(digits)) else None
