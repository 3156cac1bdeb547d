"""The content of the dashboard: a host, the selected page of messages and the selected transcript."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import Context
from typing import Any

from agentq_nb._actor.message import headline
from agentq_nb._commands.queries import MessageDetails, details_of
from agentq_nb._core.clock import Clock
from agentq_nb._core.safe_text import pretty
from agentq_nb._display.document import LONGEST_TEXT, error_text, safe
from agentq_nb._host.host import Host
from agentq_nb._host.registry import Registry
from agentq_nb._notebook.dashboard import messages, page_requests
from agentq_nb._notebook.dashboard.buttons import perform
from agentq_nb._notebook.dashboard.depth_history import recorder_of
from agentq_nb._notebook.dashboard.diffs import Diffs
from agentq_nb._notebook.dashboard.patch import Sections
from agentq_nb._notebook.dashboard.snapshot import Snapshot
from agentq_nb._notebook.dashboard.sync import Message
from agentq_nb.errors import AgentqError, SessionUnknown

_RARELY = 10.0
"""The table is read again after ten times as long as reading it took, so that it costs a tenth of the time at most."""
_SOON = 0.4
_TABLE = "Reading the dashboard's table of messages"
_EARLIER_SESSIONS = """
select session_id, actor_id, agent, status, epoch(created_at) from sessions order by last_event_at desc limit 100
"""


class Overview:
    """See :class:`agentq_nb._notebook.dashboard.sync.Subject`. Used in the kernel's loop; calls the host's."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self.settled = False
        self._registry = registry
        self._host: Host = registry.host
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._page = messages.Page()
        self._table: Sections = {}
        self._read_of: object = None
        """The state of the queues when the table was read."""
        self._next_read = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._chosen: tuple[str, str] | None = None
        self._diffs = Diffs(self._host)

    async def look(self, *, refresh: bool = False) -> Sections:
        if not self._host.running:
            self.settled = True
            raise AgentqError("The host was stopped. Start it again: %agentq start")
        seen = await self._host.enter(self._seen)
        if refresh:
            await self._read_again()
        else:
            self._read_when_due(seen["queues"])
        return {**seen, **self._table}

    async def _seen(self) -> dict[str, Any]:
        """Return everything but the table. Runs in the host's loop."""
        recorder = recorder_of(self._host)
        if self._snapshot is None:
            self._snapshot = Snapshot(self._registry, recorder)
            await self._recall(self._snapshot)
        seen: dict[str, Any] = await self._snapshot.gather()
        if self._chosen is not None and (followed := recorder.followed.get(self._chosen[1])) is not None:
            seen["transcript"] = {"it": {"session": self._chosen[1], "first": followed.blocks.first}}
            seen["blocks"] = followed.blocks.section()
        return seen

    async def _recall(self, snapshot: Snapshot) -> None:
        """Add earlier sessions from the log, which are not in memory."""
        for session, actor, agent, status, created in (await self._registry.file_sql(_EARLIER_SESSIONS)).rows:
            row = {"actor": safe(actor), "at": actor, "agent": safe(agent), "status": status, "created_at": created}
            snapshot.remember(session, row)

    # --- the table ----------------------------------------------------------------------------------------------------

    def _read_when_due(self, queues: object) -> None:
        if self._reading is not None or self._read_of == queues or self._clock.monotonic() < self._next_read:
            return
        self._reading = asyncio.get_running_loop().create_task(self._read(queues), context=Context())

    async def _read_again(self) -> None:
        while self._reading is not None:
            await asyncio.wait([self._reading])
        self._reading = asyncio.get_running_loop().create_task(self._read(None), context=Context())
        await asyncio.wait([self._reading])

    async def _read(self, queues: object) -> None:
        began = self._clock.monotonic()
        try:
            self._table = await messages.read(self._registry, self._page)
            self._read_of = queues
        except Exception as error:
            self._read_of = None  # the host is ending, or its file cannot be read now: retry
            if self._host.running:
                self._host.upkeep.note(_TABLE, error)
        else:
            self._host.upkeep.clear(_TABLE)
        finally:
            now = self._clock.monotonic()
            self._next_read = now + max(_SOON, _RARELY * (now - began))
            self._reading = None

    # --- requests of pages --------------------------------------------------------------------------------------------

    async def extras(self) -> Mapping[str, Any]:
        return {"history": await self._host.enter(_histories, self._host)}

    async def answer(self, asked: Message) -> Message:
        match asked.get("type"):
            case "page":
                await self._turn_to(asked)
                return {}
            case "choose":
                await self._choose(asked)
                return {}
            case "earlier":
                return {"blocks": await self._earlier(asked)}
            case "diff":
                return {"diff": await self._diffs.read(self._actor_of(page_requests.text(asked, "session")))}
            case "show":
                return {"shown": await self._show(page_requests.text(asked, "message"))}
            case "do":
                return {"note": await perform(self._host, asked)}
            case _:
                raise page_requests.unknown()

    async def _turn_to(self, asked: Message) -> None:
        self._page = messages.page_of(asked)
        await self._read_again()

    async def _choose(self, asked: Message) -> None:
        session = page_requests.optional_text(asked, "session")
        before, self._chosen = self._chosen, None
        if before is not None:
            await self._host.enter(_leave, self._host, before[1])
        if session is not None:
            actor = self._actor_of(session)
            await self._host.enter(_follow, self._host, actor, session)
            self._chosen = (actor, session)

    def _actor_of(self, session: str) -> str:
        row = None if self._snapshot is None else self._snapshot.session(session)
        if row is None:
            raise SessionUnknown(f"No session {session!r:.100} is known here.")
        return row["at"]

    async def _earlier(self, asked: Message) -> dict[str, Any]:
        session, before = page_requests.text(asked, "session"), page_requests.whole(asked, "before")
        return await self._host.enter(_earlier, self._host, self._actor_of(session), session, before)

    async def _show(self, message: str) -> dict[str, Any]:
        return _shown(await details_of(self._registry, message))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._chosen is not None and self._host.running:
            await self._host.enter(_leave, self._host, self._chosen[1])


async def _follow(host: Host, actor: str, session: str) -> None:
    await recorder_of(host).follow(actor, session)


async def _histories(host: Host) -> dict[str, Any]:
    return recorder_of(host).histories()


async def _leave(host: Host, session: str) -> None:
    recorder_of(host).leave(session)


async def _earlier(host: Host, actor: str, session: str, before: int) -> dict[str, Any]:
    return await recorder_of(host).earlier(actor, session, before)


def _shown(details: MessageDetails) -> dict[str, Any]:
    """Return all details of one message as texts."""
    attempts = [
        f"{attempt.attempt}. {attempt.started_at:%H:%M:%S} {attempt.outcome}"
        + (f": {headline(attempt.error)}" if attempt.error else "")
        for attempt in details.attempts
    ]
    texts = {
        "body": pretty(details.body),
        "reply": "" if details.reply is None else pretty(details.reply),
        "error": error_text(details.error) if details.error else "",
        "attempts": "\n".join(attempts),
        "key": details.idempotency_key or "",
    }
    return {
        "message": details.message_id,
        "status": details.status,
        **{name: safe(text, LONGEST_TEXT) for name, text in texts.items()},
    }
