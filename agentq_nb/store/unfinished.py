"""What lies in a log that nobody has open, told without changing a byte of it."""

from __future__ import annotations

from pathlib import Path

import duckdb

from agentq_nb.store import recall
from agentq_nb.store.backlog import insert
from agentq_nb.store.checkpoint import as_restored
from agentq_nb.store.examine import attached, in_memory
from agentq_nb.store.guard import Guard
from agentq_nb.store.journal import journal_of
from agentq_nb.store.journal_scan import scan
from agentq_nb.store.open_errors import cannot_open
from agentq_nb.store.opening import check_held
from agentq_nb.store.schema import files_of

_UNFINISHED = f"select count(distinct message_id) from ({recall.live_rows(some_back=True)})"
# A host that was started and stopped, and nothing more.
_ANYTHING = "select count(*) from events where not starts_with(kind, 'host.')"


def unfinished_messages(path: Path) -> int:
    """How many messages and scheduled calls are not settled. Raises StoreInUse, StoreError. Blocks."""
    return _count(path, _UNFINISHED)


def holds_nothing(path: Path) -> bool:
    """Nothing was ever sent, said or remembered there. Raises StoreInUse, StoreError. Blocks."""
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
