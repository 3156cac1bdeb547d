"""The sessions of one VM: the open ones, their state in memory, and their rows in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio

from agentq_nb._core.ids import mint_id
from agentq_nb._core.redaction import Redactor
from agentq_nb.agent_os.sessions.permissions import Decision, record
from agentq_nb.agent_os.sessions.rows import Recorded, history_of, last_index, origin_of, recorded
from agentq_nb.agent_os.sessions.session import Session, missing
from agentq_nb.agent_os.sessions.transcript_view import TranscriptView, read_transcript
from agentq_nb.agent_os.transcript import Records, Transcript, as_mapping, read_events, storable
from agentq_nb.agent_os.validation import secrets_of
from agentq_nb.agent_os.values import (
    ChoiceKind,
    McpServer,
    Permission,
    PermissionRequest,
    SessionEvent,
    SessionInfo,
)
from agentq_nb.errors import PromptFailed, SessionUnknown, ValidationFailed

_CLOSING = 5.0  # seconds that a cancelled prompt has to end before its session is closed anyway

_PERMISSIONS = """
SELECT session_id, data FROM events
WHERE kind = 'session.event' AND actor_id = ? AND list_contains(CAST(? AS VARCHAR[]), session_id)
    AND data->>'type' IN ('permission_request', 'permission_answer')
ORDER BY seq
"""


class Sessions:
    """The sessions of one VM. The object stays in the process while the VM sleeps, and so do the environments."""

    def __init__(self, actor_id: str) -> None:
        self.redactor = Redactor()
        self._actor_id = actor_id
        self._open: dict[str, Session] = {}
        self._closing: dict[str, SessionInfo] = {}
        """Sessions that are being closed: they count as closed, though prompts and processes may still be ending."""
        self._records: Records
        self._show: Callable[[SessionEvent], None]

    async def wake(self, records: Records, show: Callable[[SessionEvent], None]) -> None:
        """Restore the open sessions, and close those whose creator ended with an earlier process or host."""
        self._records = records
        self._show = show
        still_open = {
            found.info.session_id: found for found in await recorded(records, self._actor_id, "closed.seq IS NULL")
        }
        known = set(self._open)
        for session_id in known - still_open.keys():
            self._open.pop(session_id).process_slot.abandon()
        for session in list(self._open.values()):
            await session.recover()
            if session.orphaned:
                await self.close(session.info.session_id, "the host in which it was created ended")
        lost = {session_id: found for session_id, found in still_open.items() if session_id not in known}
        await self._refuse_lost_requests(lost)
        for session_id, found in lost.items():
            if found.info.keep:
                self._open[session_id] = await self._recalled(found)
            else:
                await self._append("session.closed", {"reason": "the kernel that created it ended"}, session_id)

    async def create(
        self,
        agent: str,
        environment: dict[str, str],
        public: Collection[str],
        cwd: str,
        keep: bool,
        chosen: Mapping[ChoiceKind, str] = MappingProxyType({}),
        mcp_servers: Sequence[McpServer] = (),
    ) -> SessionInfo:
        """Create a session; its row is on disk on return. Without ``keep``, it is closed when the actor's call ends."""
        info = SessionInfo(
            mint_id(),
            agent,
            "open",
            keep,
            cwd,
            tuple(environment),
            datetime.now(UTC),
            mode=chosen.get("mode"),
            model=chosen.get("model"),
            mcp_servers=tuple(server["name"] for server in mcp_servers),
        )
        self._hide(environment, public, mcp_servers)
        row = {"agent": agent, "keep": keep, "cwd": cwd, "env_names": list(environment)}
        row |= {"chosen": dict(chosen), "mcp_servers": list(info.mcp_servers)}
        await self._append("session.created", row, info.session_id)
        transcript = self._transcript(info.session_id)
        loop = None if keep else asyncio.get_running_loop()
        session = Session(info, transcript, environment, [], dict(chosen), tuple(mcp_servers), loop)
        self._open[info.session_id] = session
        return info

    async def learn(
        self, session: Session, chosen: Mapping[ChoiceKind, str] = MappingProxyType({}), **facts: Any
    ) -> None:
        """Record what an agent reports: ``facts`` are fields of its ``SessionInfo``, ``chosen`` the current choices.

        What must outlive the process is on disk on return; a new choice is also written to the transcript.
        """
        session.info = replace(session.info, **facts)
        news: dict[ChoiceKind, str] = {
            kind: value for kind, value in chosen.items() if session.chosen.get(kind) != value
        }
        session.chosen |= news
        for kind, value in news.items():
            await session.transcript.write("note", f"{kind}: {value}", {kind: value})
        row: dict[str, Any] = {"chosen": news} if news else {}
        if "agent_session_id" in facts:
            row["agent_session_id"] = facts["agent_session_id"]
        if row:
            await self._append("session.changed", row, session.info.session_id)

    async def opened(self, session_id: str) -> Session:
        """Return the open session with this id. Raises ``SessionUnknown`` if it is closed or does not exist."""
        if session_id in self._open:
            return self._open[session_id]
        info = await self.get(session_id)
        why = "" if info.closed_reason == "closed" else f": {info.closed_reason}"
        raise SessionUnknown(
            f"Session {session_id} with agent '{info.agent}' of VM '{self._actor_id}' was closed{why}. "
            f"Its transcript can still be read with session_events; create a new session to continue.",
            metadata={"session_id": session_id},
        )

    async def restore(
        self,
        session_id: str,
        environment: Mapping[str, str],
        public: Collection[str],
        mcp_servers: Sequence[McpServer] = (),
    ) -> None:
        """Give a session its environment and its MCP servers again after a restart."""
        session = await self.opened(session_id)
        variables = {**session.environment, **environment}
        servers = {server["name"]: server for server in (*session.mcp_servers, *mcp_servers)}
        if lost := missing(session.info, variables, servers.values()):
            raise ValidationFailed(
                f"resume_session needs {', '.join(lost)} too: session {session_id} was created with it, and what such "
                f"things hold lives in memory only."
            )
        self._hide(environment, public, mcp_servers)
        session.environment, session.mcp_servers = variables, tuple(servers.values())
        session.info = replace(session.info, mcp_servers=tuple(servers))

    async def ready(self, session_id: str) -> Session:
        """Return the open session, ready for a prompt."""
        session = await self.opened(session_id)
        if lost := session.missing():
            raise PromptFailed(
                f"Session {session_id} needs {', '.join(lost)} again: such things live in memory only, and the "
                f"kernel was restarted. Call resume_session({session_id!r}, env={{…}}) first"
                f"{', with mcp_servers=[…]' if session.info.mcp_servers else ''}.",
                metadata={"session_id": session_id, "env_names": lost},
            )
        self.redactor.add_own()
        if session.history is None:
            events = await self.events(session_id)
            session.history, session.origin = history_of(events), origin_of(events)
        return session

    async def close(self, session_id: str, reason: str) -> None:
        """Cancel its running prompt, if any, and close it; do nothing if it is closed. The transcript stays."""
        session = self._open.pop(session_id, None)
        if session is None:
            return
        self._closing[session_id] = replace(session.info, status="closed", closed_reason=reason)
        try:
            if session.cancel is not None:
                session.cancel()
                with anyio.move_on_after(_CLOSING):
                    async with session.turn:
                        pass
            else:
                session.cancel_prompts()  # one may wait for its start, and with limits that can take hours
            await session.process_slot.release()
            if session.models is not None:
                session.models.revoke()
            await session.transcript.end_stream()
            await self._append("session.closed", {"reason": reason}, session_id)
        finally:
            del self._closing[session_id]

    def cancel_prompts(self) -> None:
        """Cancel every prompt of every session, including those that wait for their turn."""
        for session in self._open.values():
            session.cancel_prompts()

    async def close_all(self, reason: str) -> None:
        """Close every open session."""
        for session_id in list(self._open):
            await self.close(session_id, reason)

    async def release_all(self) -> None:
        """End the agents' processes; the sessions stay open."""
        async with anyio.create_task_group() as ending:
            for session in self._open.values():
                ending.start_soon(session.process_slot.release)

    async def get(self, session_id: str) -> SessionInfo:
        """Return facts about a session, open or closed. Raises ``SessionUnknown``."""
        if (info := self._in_memory(session_id)) is not None:
            return info
        found = await recorded(self._records, self._actor_id, "created.session_id = ?", storable(session_id))
        if not found:
            raise SessionUnknown(
                f"VM '{self._actor_id}' has no session {session_id!r:.100}. list_sessions() shows those it has.",
                metadata={"session_id": session_id},
            )
        return found[0].info

    async def all(self, closed: bool) -> list[SessionInfo]:
        """Return the open sessions, or all of them, oldest first."""
        if not closed:
            return self.now_open()
        ever = [found.info for found in await recorded(self._records, self._actor_id)]
        return [self._in_memory(info.session_id) or info for info in ever]

    def now_open(self) -> list[SessionInfo]:
        """Return the open sessions, from memory."""
        return [self._now(session) for session in self._open.values()]

    async def events(self, session_id: str, after: int = 0) -> list[SessionEvent]:
        """Return the transcript from the log, including events that are not on disk yet."""
        await self.get(session_id)
        await self._durable(session_id)
        return await read_events(self._records, self._actor_id, session_id, after)

    async def transcript(self, session_id: str, last: int | None) -> TranscriptView:
        """Return the transcript as a view to read."""
        info = await self.get(session_id)
        await self._durable(session_id)
        return await read_transcript(self._records, session_id, self._actor_id, info.agent, info.status, last)

    async def _durable(self, session_id: str) -> None:
        if session_id in self._open:
            await self._open[session_id].transcript.durable()

    def permission_requests(self) -> list[PermissionRequest]:
        """Return the requests of agents that wait for an answer."""
        return [request for session in self._open.values() for request in session.requests.pending()]

    async def answer(self, session_id: str, request_id: str, answer: Permission) -> bool:
        """Answer a permission request. False if no such request waits for an answer."""
        session = self._open.get(session_id)
        return session is not None and await session.requests.answer(request_id, answer)

    async def _refuse_lost_requests(self, lost: Mapping[str, Recorded]) -> None:
        """Record as refused the requests that waited for an answer when an earlier process died."""
        if not lost:
            return
        waiting: dict[str, dict[str, str]] = {}
        for session_id, data in await self._records.fetch(_PERMISSIONS, (self._actor_id, list(lost))):
            event = as_mapping(data)
            requests = waiting.setdefault(session_id, {})
            if event["type"] == "permission_request":
                requests[event["request_id"]] = event["text"]
            else:
                requests.pop(event["request_id"], None)
        refused = Decision("deny", "cancelled", "the kernel ended before it was answered")
        for session_id, requests in waiting.items():
            transcript = (await self._recalled(lost[session_id])).transcript
            for request_id, title in requests.items():
                await record(transcript, request_id, title, refused)

    async def _append(self, kind: str, data: dict[str, Any], session_id: str) -> None:
        await self._records.append(kind, data, session_id=session_id)

    async def _recalled(self, found: Recorded) -> Session:
        session_id = found.info.session_id
        last = await last_index(self._records, self._actor_id, session_id)
        return Session(found.info, self._transcript(session_id, last), {}, history=None, chosen=found.chosen)

    def _hide(self, environment: Mapping[str, str], public: Collection[str], servers: Sequence[McpServer]) -> None:
        self.redactor.add(environment, public)
        self.redactor.add_own()
        for server in servers:
            self.redactor.add(secrets_of(server))

    def _transcript(self, session_id: str, last: int = 0) -> Transcript:
        return Transcript(session_id, lambda: self._records, self.redactor, lambda event: self._show(event), last)

    def _in_memory(self, session_id: str) -> SessionInfo | None:
        session = self._open.get(session_id)
        return self._closing.get(session_id) if session is None else self._now(session)

    @staticmethod
    def _now(session: Session) -> SessionInfo:
        return replace(session.info, status="running" if session.cancel else "open")


_remembered: dict[tuple[Path, str], Sessions] = {}


def sessions_of(workspaces: Path, actor_id: str) -> Sessions:
    """Return the sessions of a VM in this process: the same object before and after sleep."""
    return _remembered.setdefault((workspaces, actor_id), Sessions(actor_id))


def remembered(workspaces: Path) -> list[tuple[str, Sessions]]:
    """Return the VMs of a host that this process knows, asleep or not, with their sessions. Wakes none."""
    return [(actor, sessions) for (folder, actor), sessions in _remembered.items() if folder == workspaces]


def forget(workspaces: Path, actor_id: str) -> None:
    """Drop what this process keeps of a VM, including environments."""
    _remembered.pop((workspaces, actor_id), None)
