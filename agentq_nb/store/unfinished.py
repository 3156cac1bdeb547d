"""What lies in a log that nobody has open, told without changing a byte of it."""

from __future__ import annotations

from pathlib import Path

import duckdb

from agentq_nb.errors import StoreError
from agentq_nb.store import recall
from agentq_nb.store.examine import attached, in_memory
from agentq_nb.store.guard import Guard

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
        with in_memory() as connection, attached(connection, path):
            connection.execute("use log")
            try:
                ((found,),) = connection.execute(query).fetchall()
            finally:
                connection.execute("use memory")
            return found
    except duckdb.Error as error:
        raise StoreError(f"{path} cannot be read: {str(error).partition(chr(10))[0]}") from None
    finally:
        guard.withdraw()
