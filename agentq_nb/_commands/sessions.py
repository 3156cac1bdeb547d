"""Commands that show the agents' sessions and their transcripts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where, address
from agentq_nb._commands.parser import count, option, word
from agentq_nb.errors import SessionUnknown

if TYPE_CHECKING:
    from agentq_nb._core.result_table import Table
    from agentq_nb.agent_os import TranscriptView

_MOST_SESSIONS = 1000
_MOST_EVENTS = 200


@dataclass(frozen=True, kw_only=True)
class Sessions(Command):
    """Show the sessions with agents, the latest first. In a notebook, .frame() makes a DataFrame of them."""

    name: ClassVar[str] = "sessions"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    actor: str | None = word(
        "ACTOR/KEY", "only those of this VM, like vm/main", convert=address, optional=True, completes="actor"
    )
    last: int = option("--last", "COUNT", f"how many (default {_MOST_SESSIONS})", default=_MOST_SESSIONS, convert=count)

    async def run(self, context: CommandContext) -> Table:
        found = await context.host().file_sql(
            "select session_id, actor_id, agent, status, prompts, events, created_at, last_event_at, closed_at"
            " from sessions where actor_id = ? or ? is null order by last_event_at desc, session_id limit ?",
            [self.actor, self.actor, self.last],
        )
        vm = "" if self.actor is None else f" of {self.actor}"
        return replace(found, empty=f"No sessions{vm}. A VM begins one with an agent: await vm.create_session(...).")


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

    async def run(self, context: CommandContext) -> TranscriptView:
        from agentq_nb.agent_os.sessions.transcript_view import QUERY, TranscriptView

        found = await context.host().file_sql(
            "select session_id, actor_id, agent, status from sessions where session_id = ?", [self.session]
        )
        if not found.rows:
            raise SessionUnknown(
                f"No session {self.session!r:.100} is known here. The known ones: %agentq sessions",
                metadata={"session_id": self.session},
            )
        said = await context.host().file_sql(QUERY, [self.session])
        return TranscriptView.of(*found.rows[0], rows=said.rows, last=self.last)
