"""The host's own rows in the local log: sessions, transcripts, failures of ``run``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from agentq_nb._brokers.history import Event
from agentq_nb._core.ids import ActorId
from agentq_nb._core.threads import in_thread
from agentq_nb._store import EventLog, row
from agentq_nb.errors import StoreError

_EVENTS = """
select
    seq, epoch(time), kind, nullif(actor_id, ''), nullif(message_id, ''), nullif(session_id, ''),
    coalesce(json_merge_patch(data, '{"body": null, "reply": null, "state": null}'::json), '{}')
from events
where seq > ? and kind != 'actor.state'
order by seq
limit ?
"""


class LocalHostLog:
    """See :class:`agentq_nb._brokers.history.HostLog`. ``log`` returns the open log: a failed one is replaced."""

    def __init__(self, log: Callable[[], EventLog]) -> None:
        self._log = log

    @property
    def path(self) -> Path:
        return self._log().path

    @property
    def notices(self) -> Sequence[str]:
        return self._log().notices

    def of(self, actor: ActorId) -> LocalActorLog:
        return LocalActorLog(self._log, actor)

    @property
    def last_event(self) -> int:
        return self._log().last_seq

    def events(self, after: int, count: int) -> Sequence[Event]:
        return [Event(*row) for row in self._log().fetch(_EVENTS, [after, count])]


class LocalActorLog:
    """See :class:`agentq_nb._actor.actor_context.ActorLog`."""

    def __init__(self, log: Callable[[], EventLog], actor: ActorId) -> None:
        self._log = log
        self._actor = actor

    def append(self, kind: str, data: dict[str, Any], *, session_id: str | None = None) -> Awaitable[None]:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.add_done_callback(_retrieve)

        def done(error: StoreError | None) -> None:
            if written.done():
                return
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

        text = json.dumps(data, ensure_ascii=True, default=str, separators=(",", ":"))
        self._log().append([row(kind, self._actor, None, session_id, text)], done)
        return written

    async def fetch(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        log = self._log()
        await log.flushed()
        return await in_thread(log.fetch, query, parameters)


def _retrieve(written: asyncio.Future[None]) -> None:
    """Mark the error as read: a row that is not awaited may fail silently, since the log reports its own failure."""
    if not written.cancelled():
        written.exception()
