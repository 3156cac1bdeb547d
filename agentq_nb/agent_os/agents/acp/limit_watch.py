"""Watch what an agent reports of its provider's limits while it answers one prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from acp import RequestError

from agentq_nb._core.clock import machine_zone
from agentq_nb._policies.provider_limits import ProviderLimit
from agentq_nb._policies.provider_limits.recognition import recognise
from agentq_nb.agent_os.agents.acp.frames import mapping

RETRY_REPORT = "_claude/sdkMessage"
"""A notification of Claude Code's adapter: the agent is going to repeat a request that was refused."""

_LONGEST = 8_000  # characters; a longer text is no banner of a limit
_WORTH_WAITING = timedelta(minutes=2)
"""An agent that waits no longer than this for its provider may continue to wait."""
_BRIEF = 1.0  # seconds; an agent that repeats a refused request this soon does not know when to do so
_LONGEST_DELAY = 40 * 86_400_000  # milliseconds


class LimitWatch:
    """One turn's reports of limits: in the fields of updates, in errors, and in what it says instead of an answer."""

    def __init__(self, agent: str, variables: Mapping[str, str]) -> None:
        """``variables`` are those of the agent's environment."""
        self.had_tool_calls = False
        self.text = ""
        """What it has said."""
        self.refused_at_once: asyncio.Future[ProviderLimit] = asyncio.get_running_loop().create_future()
        """The limit that the first request of the turn met: nothing is lost by giving up instead of waiting."""
        self._agent = agent
        self._variables = variables
        self._reported: ProviderLimit | None = None
        """The limit that an update reported, unless the agent has used tools since."""
        self._since = ""
        """What the agent has said and thought since then."""

    def take(self, update: Mapping[str, Any]) -> None:
        """Take in an update of the turn."""
        kind = update.get("sessionUpdate")
        if kind == "usage_update" and update.get("_meta"):
            self._reported, self._since = self._recognised({"update": update}, "acp"), ""
        elif kind == RETRY_REPORT:
            self._take_retry(update.get("report"))
        elif kind in ("tool_call", "tool_call_update"):
            self.had_tool_calls, self._reported = True, None
        elif kind in ("agent_message_chunk", "agent_thought_chunk") and len(self.text) <= _LONGEST:
            text = _text(update.get("content"))
            self._since += text
            self.text += text if kind == "agent_message_chunk" else ""

    def of_error(self, error: RequestError) -> ProviderLimit | None:
        """Return the limit for which the agent refused to answer."""
        frame = {"error": {"code": error.code, "message": str(error), "data": error.data}}
        return self._preferred(self._recognised(frame, "acp"))

    def of_failure(self, text: str) -> ProviderLimit | None:
        """Return the limit that the text of a failure reports, such as an agent's last words."""
        return self._preferred(self._recognised(text, "text", "failed"))

    def at_end(self) -> ProviderLimit | None:
        """Return the limit that ended a turn which the agent takes for an answer."""
        if self._reported is not None and not self._since.strip():
            return self._reported
        return self._preferred(self._recognised(self.text, "text", "ended")) if self.text.strip() else None

    def while_waiting(self) -> ProviderLimit | None:
        """Return the limit whose end a silent agent waits for, if that is too far to wait inside a prompt."""
        limit = self.at_end()
        if limit is None or not limit.pauses:
            return None
        soon = limit.resume_at is not None and limit.resume_at - datetime.now(UTC) <= _WORTH_WAITING
        return None if soon else limit

    def _take_retry(self, report: object) -> None:
        message = mapping(mapping(report).get("message"))
        delay = message.get("retry_delay_ms")
        if message.get("subtype") != "api_retry" or message.get("error_status") != 429:
            return
        if not isinstance(delay, (int, float)) or not delay >= 1000 * _BRIEF:
            return
        if not (self.had_tool_calls or self.text or self.refused_at_once.done()):
            ends = datetime.now(UTC) + timedelta(milliseconds=min(delay, _LONGEST_DELAY))
            self.refused_at_once.set_result(ProviderLimit("requests", ends))

    def _recognised(
        self,
        sample: str | Mapping[str, Any],
        where: Literal["text", "acp"],
        turn: Literal["failed", "ended"] | None = None,
    ) -> ProviderLimit | None:
        return recognise(
            sample,
            where=where,
            agent=self._agent,
            now=datetime.now(UTC),
            tz=machine_zone(self._variables),
            turn=turn,
            had_tool_calls=self.had_tool_calls,
        )

    def _preferred(self, limit: ProviderLimit | None) -> ProviderLimit | None:
        """Return what the fields of an update reported rather than what was read in text about the same limit."""
        if limit is not None and limit.kind == "usage-window" and self._reported is not None:
            return self._reported
        return limit


def _text(content: object) -> str:
    text = mapping(content).get("text")
    return text if isinstance(text, str) else ""
