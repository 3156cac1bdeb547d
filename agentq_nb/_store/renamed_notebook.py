"""Find stores whose notebook was renamed or deleted, and adopt them for another notebook."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import duckdb

from agentq_nb._core.paths import SUFFIX, notebook_of, store_beside, workspaces_path
from agentq_nb._store import EventLog, startup_queries
from agentq_nb._store.checkpoint_copy import as_restored
from agentq_nb._store.group_commit import insert
from agentq_nb._store.guard import Guard, guard_of
from agentq_nb._store.inspect_store import attached, in_memory
from agentq_nb._store.journal import journal_of
from agentq_nb._store.journal_scan import scan
from agentq_nb._store.open_errors import cannot_open
from agentq_nb._store.open_store import check_held, is_as_closed
from agentq_nb._store.schema import files_of, sync_file
from agentq_nb._store.store_paths import real_path
from agentq_nb.errors import StoreError, StoreInUse, StoreLeftBehind

_UNFINISHED = f"select count(distinct message_id) from ({startup_queries.live_rows(some_back=True)})"
# A host that was only started and stopped leaves none of these rows.
_ANYTHING = "select count(*) from events where not starts_with(kind, 'host.')"


def unfinished_messages(path: Path) -> int:
    """Return the number of unsettled messages and scheduled calls. Raises StoreInUse, StoreError. Blocks."""
    return _count(path, _UNFINISHED)


def holds_nothing(path: Path) -> bool:
    """Whether the store has no rows but its hosts' starts and stops. Raises StoreInUse, StoreError. Blocks."""
    return _count(path, _ANYTHING) == 0


def _count(path: Path, query: str) -> int:
    guard = Guard.acquire(path)
    try:
        if any(file.exists() for file in files_of(path)[1:]):
            check_held(path, guard)
        with (
            as_restored(path, guard.facts.get("store")) as seen,
            in_memory() as connection,
            attached(connection, seen),
        ):
            ((last,),) = connection.execute("select coalesce(max(seq), 0) from log.events").fetchall()
            connection.execute("create or replace temp table of_journal as from log.events limit 0")
            content = scan(journal_of(path))
            insert(connection, content.after(last)[0] if content is not None else (), "of_journal")
            connection.execute("create or replace temp view events as from log.events union all from of_journal")
            ((found,),) = connection.execute(query).fetchall()
            return found
    except (duckdb.Error, OSError) as error:
        raise cannot_open(path, error) from error
    finally:
        guard.withdraw()


@dataclass(frozen=True)
class LeftBehind:
    """A store whose notebook is gone."""

    store: Path
    unfinished: int | None
    """Unsettled messages and scheduled calls; None: the file cannot be read at the moment."""

    @property
    def notebook(self) -> str:
        """The notebook's former name."""
        return f"{self.store.name.removesuffix(SUFFIX)}.ipynb"


def left_behind(folder: Path) -> list[LeftBehind]:
    """Return a folder's stores whose notebook is gone and that are not in use, most recently used first. Blocks."""
    found: list[LeftBehind] = []
    for store in sorted(folder.glob(f"*{SUFFIX}"), key=_last_used, reverse=True):
        if notebook_of(store) is not None or not store.is_file():
            continue
        try:
            found.append(LeftBehind(store, unfinished_messages(store)))
        except StoreInUse:
            continue
        except StoreError:
            found.append(LeftBehind(store, None))
    return found


def check_before_begun(store: Path, notebook: Path | None) -> list[str]:
    """Check for other stores before a notebook's store is created; return notices for its user. Blocks.

    Raises StoreLeftBehind where another store may be the intended one and has unfinished work.
    """
    if notebook is None or store != Path(os.path.realpath(store_beside(notebook))):
        return []
    if any(path.exists() for path in (*files_of(store), guard_of(store))):
        return []
    # A missing notebook was not renamed to this name: its kernel knows an old name, or it was never saved.
    if not notebook.is_file():
        return [
            f"There is no {notebook.name}, the name under which this kernel was started, and {store.name} was created "
            f"under that name. If you have renamed the notebook, restart the kernel before you send anything: then "
            f"its file gets the new name."
        ]
    found = [one for one in left_behind(store.parent) if one.unfinished != 0 or not holds_nothing(one.store)]
    unfinished = [one for one in found if one.unfinished]
    if unfinished:
        first = unfinished[0]
        others = f" ({len(unfinished) - 1} more like it here)" if unfinished[1:] else ""
        raise StoreLeftBehind(
            f"{first.store.name} holds {_counted(first.unfinished or 0)}, and its notebook {first.notebook} is gone"
            f"{others}. If this notebook had that name, continue its work: %agentq start --adopt {first.store.name}. "
            f"If not, begin a new file: %agentq start --new",
            metadata={"left_behind": [str(one.store) for one in unfinished]},
        )
    return [
        f"A new file was created. {one.store.name} is beside it, and its notebook {one.notebook} is gone. If this "
        f"notebook had that name, continue its history: %agentq stop, then %agentq start --adopt {one.store.name}"
        for one in found
    ]


def adopt(source: Path, target: Path) -> None:
    """Rename the store ``source`` to ``target``, with its guard and the folder of its workspaces. Blocks.

    The store is opened, checked and closed first, so that the one file is complete when it is renamed; it stays locked
    until it has its new name. Each rename is atomic; a crash in between leaves a complete store under one of the names,
    and adopting again continues.

    Raises StoreError where there is no such file, its notebook still exists, or ``target`` holds anything, and what
    opening raises (``store.in_use``, ``store.damaged``, …). Then nothing was renamed.
    """
    source, target = real_path(source), real_path(target)
    if not source.is_file():
        raise StoreError(f"There is no file {source}.", code="missing")
    if source == target:
        raise StoreError(f"{source.name} is this notebook's file already. Use it: %agentq start", code="exists")
    owner = notebook_of(source)
    if owner is not None:
        raise StoreError(
            f"{source.name} belongs to {owner.name}, which is still there. To use its file from here all the same: "
            f"%agentq start --store {source.name}",
            code="exists",
        )
    if source.stat().st_dev != target.parent.stat().st_dev:
        raise StoreError(
            f"{source} is on another disk. Use it where it is: %agentq start --store {source}", code="elsewhere"
        )
    _make_room(target, source)
    EventLog.open(source).close()
    guard = Guard.acquire(source)
    try:
        if not is_as_closed(source, guard):
            raise StoreInUse(f"{source} was opened by another process just now. Close it there, and try again.")
        workspaces = workspaces_path(source)
        if workspaces.is_dir():
            os.rename(workspaces, workspaces_path(target))
        os.rename(source, target)
        os.rename(guard.path, guard_of(target))
        sync_file(target.parent)
        sync_file(source.parent)
    finally:
        guard.release()


def _make_room(target: Path, source: Path) -> None:
    """Remove a store without work in it. Raises StoreError where there is anything to lose."""
    if any(file.exists() for file in files_of(target)) and not holds_nothing(target):
        raise StoreError(
            f"{target.name} is this notebook's file already, with work in it; it was left as it is. To use the other "
            f"one, name it: %agentq start --store PATH",
            code="exists",
        )
    theirs, ours = workspaces_path(source), workspaces_path(target)
    # Where only the new name has a folder, an earlier adoption was killed after moving it.
    if theirs.is_dir() and ours.is_dir() and any(ours.iterdir()):
        raise StoreError(f"{ours} is there already, with files in it. Move it away, then try again.", code="exists")
    guard = Guard.acquire(target)
    try:
        for file in files_of(target):
            file.unlink(missing_ok=True)
        guard.path.unlink()
    finally:
        guard.release()


def _counted(number: int) -> str:
    return f"{number:,} unfinished message{'' if number == 1 else 's'}"


def _last_used(store: Path) -> float:
    times = [path.stat().st_mtime for path in files_of(store) if path.exists()]
    return max(times, default=0.0)
