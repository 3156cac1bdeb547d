"""The history of messages and sessions in the local log."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from agentq_nb._brokers.history import Moment, moment
from agentq_nb._brokers.history_queries import Question, messages, results, transcripts
from agentq_nb._core.result_table import Table
from agentq_nb._store import EventLog
from agentq_nb._store.sql import Parameters


class LocalHistory:
    """See :class:`agentq_nb._brokers.history.History`. ``log`` returns the open log: a failed one is replaced."""

    def __init__(self, log: Callable[[], EventLog], prune: Callable[[float], Coroutine[Any, Any, int]]) -> None:
        self._log = log
        self._prune = prune

    async def messages(
        self, actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None
    ) -> Table:
        return await self._rows(messages(actor, queue, status, since))

    async def results(
        self, actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None
    ) -> Table:
        return await self._rows(results(actor, queue, status, since))

    async def transcripts(self, session: str | None, actor: str | None, since: Moment | None) -> Table:
        return await self._rows(transcripts(session, actor, since))

    async def sql(self, query: str, parameters: Parameters = ()) -> Table:
        log = self._log()
        await log.flushed()
        return await log.sql(query, parameters)

    async def export(self, target: Path) -> None:
        await self._log().export(target)

    async def prune(self, before: Moment) -> int:
        return await self._prune(moment("before", before))

    async def _rows(self, asked: Question) -> Table:
        return await self.sql(asked.query, asked.parameters)
