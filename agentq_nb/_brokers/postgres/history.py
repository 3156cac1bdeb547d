"""What became of messages, as tables: users' SQL, and the queries over the views that the local store has too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from agentq_nb._brokers import history_queries
from agentq_nb._brokers.history import Moment
from agentq_nb._brokers.postgres import sql
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.expirations import settle_all_expired
from agentq_nb._brokers.postgres.rows import UNSETTLED
from agentq_nb._brokers.postgres.sql_text import user_query
from agentq_nb._core.message_status import PRUNABLE, sql_list
from agentq_nb._core.result_table import Table

OwnRows: TypeAlias = Callable[[str], Awaitable[Table]]
"""Returns the rows of a view of the host's own file."""

OWN_VIEWS = ("sessions", "transcripts", "usage")
"""What a host writes of itself is in its own file."""

_PRUNED_AT_ONCE = 1000


class MessageHistory:
    """The messages of a database as tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def messages(
        self, actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None
    ) -> Table:
        """Return messages in the order they were sent; ``since`` limits when they were sent."""
        return await self._answer(history_queries.messages(actor, queue, status, since))

    async def results(
        self,
        actor: str | None,
        queue: str | None,
        status: str | Sequence[str] | None,
        since: Moment | None,
        own: OwnRows | None = None,
    ) -> Table:
        """Return settled messages in the order they ended; ``since`` limits when they ended.

        ``own`` adds what the host's own file knows of their cost.
        """
        return await self._answer(history_queries.results(actor, queue, status, since), own)

    async def _answer(self, asked: history_queries.Question, own: OwnRows | None = None) -> Table:
        return await self.sql(asked.query, asked.parameters, own)

    async def sql(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = (), own: OwnRows | None = None
    ) -> Table:
        """Return the rows of a query that only reads. Raises SqlRefused, StoreError if it takes too long, Unavailable."""
        read = user_query(query, parameters)
        tables = [] if own is None else [sql.OwnTable(name, await own(name)) for name in _own_views(read.names)]
        await self._database.run(_expire, repeatable=True)
        return await sql.QueryConnection(self._database.address).answer(read, tables)


def _own_views(names: Collection[str]) -> list[str]:
    """Return the views of the host's own file that a query needs: results have the cost of each message."""
    return [view for view in OWN_VIEWS if view in names or (view == "usage" and "results" in names)]


async def _expire(tx: Transaction) -> None:
    await settle_all_expired(tx)


_PRUNABLE = f"""
m.ended_at < %(before)s and m.status in {sql_list(PRUNABLE)}
and (m.batch is null or m.batch not in (
    select live.batch from agentq.messages live where live.status in {UNSETTLED} and live.batch is not null
))
and not exists (
    select from agentq.predecessors d join agentq.messages later on later.id = d.message
    where d.predecessor = m.id and later.status <> 'completed'
      and (later.status not in {sql_list(PRUNABLE)} or later.ended_at >= %(before)s)
)
"""

_LOCK = f"""
select m.id from agentq.messages m
where {_PRUNABLE}
limit {_PRUNED_AT_ONCE}
for update of m skip locked
"""

_DELETE = f"delete from agentq.messages m where m.id = any(%(ids)s) and {_PRUNABLE} returning 1"


async def prune(database: Database, before: float) -> int:
    """Delete messages settled before a time, in seconds since 1970, a thousand at a time; return their number.

    What stays: dead letters, the rows of batches that are not wholly settled, and the predecessors of messages that may
    still be handled.
    """

    async def delete(tx: Transaction) -> tuple[int, int]:
        found = [message for (message,) in await tx.rows(_LOCK, before=before)]
        # Before they were locked, other messages may have been sent after them.
        return len(found), len(await tx.rows(_DELETE, before=before, ids=found))

    deleted = 0
    while True:
        found, count = await database.run(delete)
        deleted += count
        if found == 0 or count == 0:
            break
    for statement in _PRUNE_LIMITS:
        await database.run(lambda tx, statement=statement: tx.ask(statement, before=before), repeatable=True)
    return deleted


# Starts that still count stay, and so do pauses that have not ended.
_PRUNE_LIMITS = (
    "delete from agentq.limit_starts where at < %(before)s and until < agentq.now()",
    """
    delete from agentq.provider_pauses
    where since < %(before)s
      and (ended < %(before)s or ((pause::jsonb ->> 'known')::bool and (pause::jsonb ->> 'until')::float8 < agentq.now()))
    """,
)
