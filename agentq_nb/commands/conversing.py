"""Commands that look at what was said in the agents' sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar

from agentq_nb.commands.looking import literal
from agentq_nb.commands.scene import Command, Scene, Where, address
from agentq_nb.commands.words import count, option, word
from agentq_nb.errors import SessionUnknown

if TYPE_CHECKING:
    from agentq_nb.agent_os import SessionEvent
    from agentq_nb.store import Table

_MOST_SESSIONS = 1000
_MOST_EVENTS = 200


@dataclass(frozen=True, kw_only=True)
class Sessions(Command):
    """Show the sessions with agents, the latest first; .frame() makes a DataFrame of them."""

    name: ClassVar[str] = "sessions"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    actor: str | None = word(
        "ACTOR/KEY", "only those of this VM, like vm/main", convert=address, optional=True, completes="actor"
    )
    last: int = option("--last", "COUNT", f"how many (default {_MOST_SESSIONS})", default=_MOST_SESSIONS, convert=count)

    async def run(self, scene: Scene) -> Table:
        only = "" if self.actor is None else f"where actor_id = {literal(self.actor)}"
        return await scene.host().sql(
            "select session_id, actor_id, agent, status, prompts, events, created_at, last_event_at, closed_at"
            f" from sessions {only} order by last_event_at desc, session_id limit {self.last}"
        )


@dataclass(frozen=True)
class SessionTranscript:
    """What was said in a session, the pieces of each answer put together. ``left_out`` counts earlier events."""

    session_id: str
    actor_id: str
    agent: str
    status: str
    events: Sequence[SessionEvent]
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Transcript(Command):
    """Show what was said in a session: prompts, answers and tool calls, in order; also after it was closed."""

    name: ClassVar[str] = "transcript"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    session: str = word("SESSION", "the session's id; %agentq sessions lists them")
    last: int = option(
        "--last", "COUNT", f"how many events (default {_MOST_EVENTS})", default=_MOST_EVENTS, convert=count
    )

    async def run(self, scene: Scene) -> SessionTranscript:
        wanted = f"where session_id = {literal(self.session)}"
        found = await scene.host().sql(f"select session_id, actor_id, agent, status from sessions {wanted}")
        if not found.rows:
            raise SessionUnknown(
                f"No session {self.session!r:.100} is known here. The known ones: %agentq sessions",
                metadata={"session_id": self.session},
            )
        pieces = await scene.host().sql(f"select time, data::varchar from transcripts {wanted} order by index")
        whole = _put_together(self.session, pieces)
        shown = whole[-self.last :]
        return SessionTranscript(*found.rows[0], events=shown, left_out=len(whole) - len(shown))


def _put_together(session: str, pieces: Table) -> list[SessionEvent]:
    """Answers are stored as they stream, piece by piece: neighbours become one event, with the first one's time."""
    from dataclasses import replace

    from agentq_nb.agent_os.transcript import as_mapping, event_of, in_utc

    events = [event_of(session, in_utc(time), as_mapping(data)) for time, data in pieces.rows]
    whole: list[SessionEvent] = []
    for kind, neighbours in groupby(events, key=lambda event: event.type):
        if kind == "text":
            first, *others = neighbours
            whole.append(replace(first, text="".join(piece.text or "" for piece in (first, *others))))
        else:
            whole += neighbours
    return whole
