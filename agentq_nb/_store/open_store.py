"""Check a log before it is opened: nothing is written until it is certain that every row is there."""

from __future__ import annotations

import os
import shutil
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from agentq_nb._core.ids import mint_id
from agentq_nb._store import schema
from agentq_nb._store.checkpoint_copy import as_restored, restored
from agentq_nb._store.guard import Guard, read_only
from agentq_nb._store.inspect_store import Finding, examine, not_ours, remove_trial
from agentq_nb._store.journal import Frame, journal_of
from agentq_nb._store.journal_scan import JournalContent, scan
from agentq_nb._store.open_errors import cannot_open
from agentq_nb._store.salvage import (
    Loss,
    give_up_what_is_lost,
    go_on_rebuilding,
    remove_rebuilt,
    remove_unfinished_rebuilding,
)
from agentq_nb.errors import StoreDamaged, StoreError, StoreTooNew


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result of the checks of a log that may be opened for writing.

    :ivar last: the highest sequence number in the database when it was examined; None: it was not, since it is
        unchanged since its last close.
    :ivar frames: rows of the journal that the database lacks.
    :ivar wal_bytes: where to truncate the write-ahead log, when the rest cannot be replayed and is in the journal.
    :ivar kept: the copy of the write-ahead log, removed once all rows were seen again.
    """

    last: int | None
    notices: tuple[str, ...] = ()
    loss: Loss | None = None
    frames: tuple[Frame, ...] = ()
    wal_bytes: int | None = None
    kept: Path | None = None


def prepare(path: Path, guard: Guard, accept_loss: bool) -> Prepared:
    """Check the log at ``path``, or create one. Changes nothing if it raises.

    Raises StoreDamaged, StoreTooNew, StoreNotOurs, StoreInUse, StoreReadOnly, StoreError.
    """
    _refuse_newer(path, guard.facts.get("schema", 0))
    tidy_up(path)
    if accept_loss:
        go_on_rebuilding(path)
    with restored(path, guard.facts.get("store")) as useless:
        return _look_and_prepare(path, guard, accept_loss, useless)


def _look_and_prepare(path: Path, guard: Guard, accept_loss: bool, useless: str | None) -> Prepared:
    size = _size(path)
    if _is_to_be_made(path, guard, size):
        if size is None:
            return _create(path, guard)
        path.unlink()
        made = _create(path, guard)
        return made if guard.mark == 0 else replace(made, notices=(f"{path.name} was an empty file.",))
    if is_as_closed(path, guard):
        return Prepared(None)
    content = scan(journal_of(path))
    found = _sound(path, guard, size, content)
    finding, frames = with_journal(found, content, guard.mark)
    notices = _remarks(path, guard, found, content) + ((useless,) if useless else ())
    if not finding.complete(guard.mark):
        damage = _damaged(path, guard, finding)
        if not accept_loss:
            raise damage
        loss = give_up_what_is_lost(path, guard, found, damage)
        ours = content is not None and content.store_id in ("", found.store_id)
        return Prepared(None, notices, loss, content.frames if content is not None and ours else ())
    if not os.access(path, os.W_OK):
        raise read_only(path, PermissionError(13, "the file cannot be written"))
    return Prepared(found.last, notices, None, frames, found.wal_bytes, _keep_wal(path))


def check_log(path: Path) -> None:
    """Raise what opening the log would raise, without changing anything. A missing log is fine.

    Raises StoreInUse, StoreDamaged, StoreTooNew, StoreNotOurs, StoreError.
    """
    guard = Guard.acquire(path)
    try:
        check_held(path, guard)
    finally:
        guard.withdraw()


def check_held(path: Path, guard: Guard) -> None:
    """Check a log as :func:`check_log` does, when its guard is locked already."""
    try:
        _refuse_newer(path, guard.facts.get("schema", 0))
        size = _size(path)
        if _is_to_be_made(path, guard, size) or is_as_closed(path, guard):
            return
        content = scan(journal_of(path))
        with as_restored(path, guard.facts.get("store")) as seen:
            finding, _ = with_journal(_sound(path, guard, size, content, seen), content, guard.mark)
    except (OSError, duckdb.Error) as error:
        raise cannot_open(path, error) from error
    if not finding.complete(guard.mark):
        raise _damaged(path, guard, finding)


def tidy_up(path: Path, opened: bool = False) -> None:
    """Remove files left by attempts to open the log that were killed or failed.

    ``opened``: every row was seen in the log, so no copy is needed any more.
    """
    with suppress(OSError):
        remove_trial(path)
        schema.remove_unfinished(path)
        for file in (kept_wal_of(path), journal_of(path)):
            file.with_name(file.name + ".new").unlink(missing_ok=True)
        remove_unfinished_rebuilding(path)
        kept, wal = kept_wal_of(path), schema.wal_of(path)
        if kept.exists() and (opened or (wal.exists() and kept.read_bytes() == wal.read_bytes())):
            kept.unlink()
        if opened:
            remove_rebuilt(path)


def with_journal(found: Finding, content: JournalContent | None, mark: int | None) -> tuple[Finding, tuple[Frame, ...]]:
    """Return what database and journal hold together, and the rows of the journal that the database lacks."""
    if content is None and found.wal_bytes is not None and mark is not None and not found.journal:
        # As far as the guard knows, an unfinished write; ``_remarks`` reports it.
        return replace(found, problem=None), ()
    if content is None:
        gone = found.journal and found.problem is None
        return (replace(found, problem="the journal is gone") if gone else found), ()
    if content.store_id and found.store_id and content.store_id != found.store_id:
        return replace(found, problem=found.problem or "the journal belongs to another file"), ()
    frames, missing = content.after(found.last)
    problem = found.problem or _journal_problem(found, content)
    if found.wal_bytes is not None and not missing and not _journal_problem(found, content):
        # What cannot be replayed is an unfinished transaction, or one whose rows are in the journal too.
        problem = None
    rows = sum(frame.rows for frame in frames)
    last = max(found.last, content.reached, *(frame.last for frame in frames))
    return replace(found, last=last, accounted=found.accounted + rows, problem=problem), tuple(frames)


def _journal_problem(found: Finding, content: JournalContent) -> str | None:
    if content.problem is not None:
        return content.problem
    if found.differs:
        return "the journal tells another history than the database"
    # With a part of the write-ahead log gone, the database may name an earlier journal.
    known = found.journal in ("", content.id, content.replaces) or found.problem is not None
    return None if known else "the journal is not the one that was in use"


def describe_closed(path: Path, last: int) -> dict[str, Any]:
    """Return a cleanly closed log's state, for the guard. The database must be closed in this process."""
    return {"last": last, "size": path.stat().st_size, "crc": _checksum(path)}


def is_as_closed(path: Path, guard: Guard) -> bool:
    """Whether the file is byte for byte as the last clean close left it. It must be closed in this process."""
    closed: dict[str, Any] | None = guard.facts.get("closed")
    return (
        closed is not None
        and path.exists()
        and not schema.wal_of(path).exists()
        and not journal_of(path).exists()
        and closed["last"] == guard.mark
        and closed["size"] == path.stat().st_size
        and closed["crc"] == _checksum(path)
    )


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _create(path: Path, guard: Guard) -> Prepared:
    store_id = mint_id()
    guard.write_both_marks(0)
    guard.write_facts({"schema": schema.version(), "store": store_id})
    try:
        schema.create(path, store_id)
    except (duckdb.Error, OSError):
        with suppress(OSError):
            schema.remove_unfinished(path)
        raise
    guard.expect(0)  # it belongs to a database now, even if a later step fails
    return Prepared(None)


def _size(path: Path) -> int | None:
    """Return the file's size; None when it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _examine(path: Path, guard: Guard, size: int | None, content: JournalContent | None, seen: Path) -> Finding:
    if size is None:
        return Finding(problem="the file is gone")
    if size == 0:
        return Finding(problem="the file is empty")
    if not guard.mark and content is None and not _is_duckdb(path):
        raise not_ours(path)
    return examine(seen, content.frames if content is not None else ())


def _sound(
    path: Path, guard: Guard, size: int | None, content: JournalContent | None, seen: Path | None = None
) -> Finding:
    """Examine a log; raise if this code does not know its version or the guard is another's. Rows may be missing.

    ``seen`` is where its database can be read.
    """
    finding = _examine(path, guard, size, content, seen or path)
    _refuse_newer(path, finding.schema_version)
    _refuse_other(path, guard, finding)
    # An unreadable database does not say which log it is; the files beside it do.
    known = finding.store_id or guard.facts.get("store") or (content.store_id if content is not None else "")
    return replace(finding, store_id=known)


def _is_to_be_made(path: Path, guard: Guard, size: int | None) -> bool:
    others = any(file.exists() for file in schema.files_of(path)[1:])
    return not size and not others and not guard.mark


def _is_duckdb(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[8:] == b"DUCK"


def _refuse_newer(path: Path, version: int) -> None:
    if version > schema.version():
        raise StoreTooNew(
            f"{path} was written by a newer agentq_nb (schema {version}; this one knows {schema.version()}). It was left "
            f"as it is. Upgrade agentq_nb, or choose another file with store=PATH (%agentq start --store PATH).",
            metadata={"found": version, "known": schema.version()},
        )


def _refuse_other(path: Path, guard: Guard, finding: Finding) -> None:
    ours = guard.facts.get("store")
    if finding.store_id and ours and finding.store_id != ours:
        raise StoreError(
            f"{guard.path.name} belongs to another file than {path.name} beside it, so whether rows are missing cannot "
            f"be told. Both were left as they are. Put back the file that belongs to it, or remove {guard.path.name} if "
            f"{path.name} is meant to be here.",
            code="other_guard",
            metadata={"path": str(path)},
        )


def _remarks(path: Path, guard: Guard, found: Finding, content: JournalContent | None) -> tuple[str, ...]:
    said: list[str] = []
    if guard.mark is None:
        said.append(f"Opened without {guard.path.name}: whether rows are missing at the end of the log cannot be told.")
    elif not guard.readable:
        said.append(f"{guard.path.name} was damaged and is written again; all rows up to its mark are there.")
    torn = journal_of(path) if content is not None and content.torn else None
    if content is None and found.wal_bytes is not None:
        torn = schema.wal_of(path)
    if torn is not None:
        said.append(
            f"{torn.name} ends in a write that was not finished, as after a power loss; nothing in it was acknowledged, "
            f"unless {guard.path.name} is older than it."
        )
    if content is not None and content.id == found.journal and found.last > content.last:
        # Rows reach the database through the journal, or a region is restarted after them.
        said.append(
            f"{journal_of(path).name} is older than {path.name}: whether later rows are missing cannot be told, unless "
            f"{guard.path.name} is of the same time as the other files."
        )
    return tuple(said)


def _damaged(path: Path, guard: Guard, finding: Finding) -> StoreDamaged:
    behind = finding.accounted + finding.unreadable if finding.unreadable else 0
    expected = max(guard.mark or 0, finding.last, behind)
    missing = expected - finding.accounted
    why = finding.problem or "rows are missing"
    lost = f"{missing} of {expected} rows are gone"
    if missing < 0:
        why, lost = "rows are there twice", f"{finding.accounted} rows stand where {expected} were written"
    elif not missing:
        lost = f"All {expected} rows known to be written are there; whether later ones are gone cannot be told"
    return StoreDamaged(
        f"{path} is damaged: {why}. {lost}. Nothing was changed. Put back a copy of {path.name} with its "
        f"{path.name}.wal and {path.name}.journal, or continue without what is lost: %agentq doctor --accept-loss "
        f"(the damaged files are kept).",
        expected=expected,
        found=finding.accounted,
        metadata={"path": str(path), "reason": why},
    )


def kept_wal_of(path: Path) -> Path:
    """Return the path of the copy of the write-ahead log that exists while the log is being opened."""
    return path.with_name(path.name + ".wal.kept")


def _keep_wal(path: Path) -> Path | None:
    """Copy the write-ahead log, if there is room: opening for writing replays it, and may truncate it."""
    wal = schema.wal_of(path)
    if not wal.exists():
        return None
    kept = kept_wal_of(path)
    unfinished = kept.with_name(kept.name + ".new")
    try:
        unfinished.unlink(missing_ok=True)
        shutil.copyfile(wal, unfinished)
        os.chmod(unfinished, 0o600)
        os.replace(unfinished, kept)
    except OSError:
        # All rows were seen just now, so a disk without room for the copy is no reason not to open.
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        return None
    return kept
