"""Read sessions from the log: how they were created, changed and closed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agentq_nb._core.origin import PROCESS, Origin, least_trusted
from agentq_nb.agent_os.agent import LATE, THOUGHT
from agentq_nb.agent_os.transcript import Records, as_mapping, in_utc
from agentq_nb.agent_os.values import ChoiceKind, SessionEvent, SessionInfo

_SESSIONS = """
SELECT created.session_id, created.time, created.data, closed.data, (
    SELECT list(changed.data ORDER BY changed.seq) FROM events AS changed
    WHERE changed.kind = 'session.changed' AND changed.session_id = created.session_id
)
FROM events AS created
LEFT JOIN events AS closed ON closed.session_id = created.session_id AND closed.kind = 'session.closed'
WHERE created.kind = 'session.created' AND created.actor_id = ?
"""
_LAST_INDEX = """
SELECT max(CAST(data->>'index' AS BIGINT)) FROM events
WHERE kind = 'session.event' AND actor_id = ? AND session_id = ?
"""


@dataclass(frozen=True)
class Recorded:
    """A session as the log describes it."""

    info: SessionInfo
    chosen: dict[ChoiceKind, str] = field(default_factory=dict[ChoiceKind, str])
    """The mode and the model that were chosen for it."""


async def recorded(records: Records, actor_id: str, only: str = "", *parameters: Any) -> list[Recorded]:
    """Return the sessions of a VM, oldest first; ``only`` is a condition on their rows ``created`` and ``closed``."""
    condition = f" AND {only}" if only else ""
    rows = await records.fetch(f"{_SESSIONS}{condition} ORDER BY created.seq", (actor_id, *parameters))
    return [_recorded(*row) for row in rows]


async def last_index(records: Records, actor_id: str, session_id: str) -> int:
    """Return the index of the last event of a transcript, 0 when it has none."""
    return (await records.fetch(_LAST_INDEX, (actor_id, session_id)))[0][0] or 0


def history_of(events: Sequence[SessionEvent]) -> list[tuple[str, str]]:
    """Return the completed prompts with their answers, including text that was added to one later."""
    turns: list[_Turn] = []
    for event in events:
        if event.type == "prompt":
            turns.append(_Turn(event.text or ""))
        elif event.type == "text" and turns:
            turns[-1].pieces.append(event.text or "")
        elif event.type == "note" and event.data.get(LATE) and not event.data.get(THOUGHT) and len(turns) > 1:
            turns[-2].pieces.append(event.text or "")
        elif event.type == "result" and turns:
            turns[-1].answered = event.data.get("stop_reason") != "cancelled"
    return [(turn.prompt, "".join(turn.pieces)) for turn in turns if turn.answered]


def origin_of(events: Sequence[SessionEvent]) -> Origin:
    """Return the least trusted origin of the prompts."""
    prompts = (event.data.get("origin", PROCESS) for event in events if event.type == "prompt")
    return functools.reduce(least_trusted, prompts, PROCESS)


@dataclass
class _Turn:
    """One prompt and the pieces of its answer."""

    prompt: str
    pieces: list[str] = field(default_factory=list[str])
    answered: bool = False


def _recorded(session_id: str, created_at: datetime, created: Any, closed: Any, changes: list[Any] | None) -> Recorded:
    row = as_mapping(created)
    chosen: dict[ChoiceKind, str] = dict(row.get("chosen", {}))
    agent_session_id: str | None = None
    for change in map(as_mapping, changes or ()):
        chosen |= change.get("chosen", {})
        agent_session_id = change.get("agent_session_id", agent_session_id)
    info = SessionInfo(
        session_id,
        row["agent"],
        "open" if closed is None else "closed",
        row["keep"],
        row["cwd"],
        tuple(row["env_names"]),
        in_utc(created_at),
        None if closed is None else as_mapping(closed)["reason"],
        mode=chosen.get("mode"),
        model=chosen.get("model"),
        mcp_servers=tuple(row.get("mcp_servers", ())),
        agent_session_id=agent_session_id,
    )
    return Recorded(info, chosen)
