"""Live cards of one message or one session, shown at the end of a cell until it is settled or closed."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from agentq_nb._actor.message import headline
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import MessageId
from agentq_nb._core.message_status import WAITING, is_final
from agentq_nb._core.safe_text import pretty
from agentq_nb._display.document import LONGEST_TEXT, safe
from agentq_nb._host.host import Host
from agentq_nb._host.registry import Registry
from agentq_nb._notebook.dashboard import page_requests
from agentq_nb._notebook.dashboard.buttons import perform
from agentq_nb._notebook.dashboard.depth_history import recorder_of
from agentq_nb._notebook.dashboard.patch import Sections
from agentq_nb._notebook.dashboard.snapshot import requests
from agentq_nb._notebook.dashboard.sync import Message, one_line
from agentq_nb.agent_os import SessionInfo
from agentq_nb.agent_os.sessions.sessions import remembered
from agentq_nb.errors import AgentqError, NoHost


class _Small(ABC):
    """The base class of both cards. See :class:`agentq_nb._notebook.dashboard.sync.Subject`."""

    def __init__(self, registry: Registry) -> None:
        self.settled = False
        self.registry = registry
        self.host: Host = registry.host

    async def look(self, *, refresh: bool = False) -> Sections:
        if not self.host.running:
            self.settled = True
            raise NoHost
        return await self.host.enter(self.seen)

    @abstractmethod
    async def seen(self) -> Sections:
        """Return its current state. Called in the host's loop."""

    async def extras(self) -> Mapping[str, Any]:
        return {}

    async def answer(self, asked: Message) -> Message:
        if asked.get("type") != "do":
            raise page_requests.unknown()
        return {"note": await perform(self.host, asked)}

    @abstractmethod
    async def close(self) -> None:
        """End the card: no page shows it any more."""


class OneMessage(_Small):
    """The card of a message."""

    def __init__(self, registry: Registry, message: MessageId) -> None:
        super().__init__(registry)
        self._message = message
        self._first_seen = self.host.clock.monotonic()
        self._row: dict[str, Any] = {}

    async def seen(self) -> Sections:
        standing = await self.host.wait(self._message, 0)
        others = 0
        if standing.status in WAITING:
            queues = await self.host.broker.status(standing.actor)
            others = sum(queue.ready + queue.running for queue in queues if queue.queue == standing.queue) - 1
        self.settled = is_final(standing.status)
        now = round(self.host.clock.monotonic(), 1)
        row = {
            "id": standing.message,
            "actor": safe(standing.actor),
            "queue": safe(standing.queue),
            "status": standing.status,
            "live": not self.settled,
            "attempts": standing.attempts,
            "others": max(0, others),
            "since": round(self._first_seen, 1),
            "settled": now if self.settled else None,
            **_outcome(standing),
        }
        return {"message": {"it": row}}

    async def close(self) -> None:
        """Do nothing: the card holds no resources."""


def _outcome(standing: StoredResult) -> dict[str, Any]:
    reply = "" if standing.reply is None else safe(pretty(json.loads(standing.reply)), LONGEST_TEXT)
    error = one_line(headline(standing.error)) if standing.error else ""
    return {"reply": reply, "error": error}


class OneSession(_Small):
    """The card of a session with an agent, and the end of its transcript."""

    def __init__(self, registry: Registry, info: SessionInfo) -> None:
        super().__init__(registry)
        self._info = info
        self._actor: str | None = None

    async def seen(self) -> Sections:
        recorder = recorder_of(self.host)
        session = self._info.session_id
        if self._actor is None:
            rows = (await self.registry.file_sql("select actor_id from sessions where session_id = ?", [session])).rows
            if not rows:
                self.settled = True
                raise AgentqError(f"No session {session} is known here.")
            self._actor = str(rows[0][0])
            await recorder.follow(self._actor, session)
        present = [
            info
            for actor, sessions in remembered(self.host.workspaces)
            if actor == self._actor
            for info in sessions.now_open()
            if info.session_id == session
        ]
        self.settled = not present
        blocks = recorder.followed[session].blocks
        row = {
            "actor": safe(self._actor),
            "at": self._actor,
            "agent": safe(self._info.agent),
            "status": present[0].status if present else "closed",
            "id": session,
        }
        return {
            "session": {"it": row},
            "transcript": {"it": {"session": session, "first": blocks.first}},
            "blocks": blocks.section(),
            "requests": {key: asked for key, asked in requests(self.host).items() if asked["session"] == session},
        }

    async def answer(self, asked: Message) -> Message:
        if asked.get("type") != "earlier":
            return await super().answer(asked)
        return {"blocks": await self.host.enter(self._earlier, page_requests.whole(asked, "before", 1))}

    async def _earlier(self, before: int) -> dict[str, Any]:
        assert self._actor is not None
        return await recorder_of(self.host).earlier(self._actor, self._info.session_id, before)

    async def close(self) -> None:
        if self._actor is not None and self.host.running:
            await self.host.enter(self._leave)

    async def _leave(self) -> None:
        recorder_of(self.host).leave(self._info.session_id)
