"""A session's transcript to be read: as text, as Markdown, as a DataFrame; notebooks show it as HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from agentq_nb._core.result_table import Table
from agentq_nb._core.safe_text import LONGEST_TEXT, pretty, safe
from agentq_nb.agent_os.transcript import Records, as_mapping, event_of, in_utc
from agentq_nb.agent_os.values import SessionEvent

QUERY = "select time, index, type, text, data::varchar from transcripts where session_id = ? order by index"
"""The rows that :meth:`TranscriptView.of` makes a view of; the pieces of an answer are one row there."""

_HEADINGS = {
    "prompt": "Prompt",
    "text": "Answer",
    "tool_call": "Tool call",
    "tool_result": "Tool result",
    "permission_request": "Permission asked",
    "result": "End of turn",
    "error": "Error",
    "note": "Note",
}
_ANSWERS = {"allow": "Allowed", "deny": "Refused"}
_ANSWERED_BY = {
    "user": "by the user",
    "setting": "as permissions= says",
    "function": "by the function given as permissions",
    "timeout": "since nobody answered",
    "cancelled": "since nobody can answer any more",
}


@dataclass(frozen=True)
class Part:
    """One event as it is read: a few words of ours, and what was said. ``text`` may hold anything."""

    heading: str
    text: str
    time: datetime
    """UTC."""


@dataclass(frozen=True)
class TranscriptView:
    """What was said in one session, whole answers in one piece. ``print`` it, or see :meth:`markdown`, :meth:`frame`."""

    session_id: str
    actor_id: str
    agent: str
    status: str
    events: Sequence[SessionEvent]
    left_out: int = 0
    """How many earlier events are not in ``events``."""

    @staticmethod
    def of(
        session_id: str,
        actor_id: str,
        agent: str,
        status: str,
        rows: Sequence[tuple[Any, ...]],
        last: int | None = None,
    ) -> TranscriptView:
        """The view of the rows that ``QUERY`` gives, of the ``last`` ones of them if told."""
        shown = rows if last is None else rows[max(len(rows) - last, 0) :]
        events = [
            event_of(session_id, in_utc(time), {**as_mapping(data), "index": index, "type": kind, "text": text})
            for time, index, kind, text, data in shown
        ]
        return TranscriptView(session_id, actor_id, agent, status, events, len(rows) - len(shown))

    def parts(self) -> list[Part]:
        """Each event under a heading, as all forms show it."""
        return [_part(event) for event in self.events]

    def __str__(self) -> str:
        """As plain text that no terminal is confused by; a text of over 20,000 characters is cut and says so."""
        blocks = [safe(self._title()), safe(self._facts())]
        for part in self.parts():
            lines = safe(part.text, LONGEST_TEXT).splitlines()
            blocks.append("\n".join([f"{safe(part.heading)}, {clock(part.time)}", *(f"  {line}" for line in lines)]))
        return "\n\n".join(blocks + self.remarks())

    def markdown(self) -> str:
        """As Markdown, nothing cut. What agents and users wrote stands in blocks of code, so whatever makes HTML of
        it, in whichever dialect, shows it and runs nothing.
        """
        blocks = [f"# {_inert(self._title())}", _inert(self._facts())]
        for part in self.parts():
            blocks += [f"## {_inert(part.heading)}", clock(part.time)]
            if part.text.strip():
                blocks.append(_code(part.text))
        return "\n\n".join(blocks + self.remarks()) + "\n"

    def frame(self) -> Any:
        """As a DataFrame, one row an event: index, time (UTC), type, text, data. See :meth:`agentq_nb._core.result_table.Table.frame`."""
        rows = [(e.index, e.time.replace(tzinfo=None), e.type, e.text, json.dumps(dict(e.data))) for e in self.events]
        columns = {"index": "BIGINT", "time": "TIMESTAMP", "type": "VARCHAR", "text": "VARCHAR", "data": "JSON"}
        return Table(list(columns), rows, list(columns.values())).frame()

    def _title(self) -> str:
        return f"Session {self.session_id} with {self.agent}"

    def _facts(self) -> str:
        return f"{self.actor_id}, {self.status}"

    def remarks(self) -> list[str]:
        """What is to be known besides: sentences."""
        if self.left_out:
            return [f"{self.left_out:,} earlier events are left out."]
        return [] if self.events else ["Nothing was said yet."]


async def read_transcript(
    records: Records, session_id: str, actor_id: str, agent: str, status: str, last: int | None
) -> TranscriptView:
    """The view of a session from the log."""
    return TranscriptView.of(session_id, actor_id, agent, status, await records.fetch(QUERY, (session_id,)), last)


def clock(time: datetime) -> str:
    """A time as transcripts show it."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _part(event: SessionEvent) -> Part:
    heading, told = _HEADINGS.get(event.type, event.type), dict(event.data)
    if event.type == "permission_answer":
        answer, by = told.pop("answer", None), told.pop("by", None)
        heading = f"{_ANSWERS.get(str(answer), 'Answered')} {_ANSWERED_BY.get(str(by), '')}".rstrip()
        told.pop("request_id", None)
    elif event.type == "note" and told.pop("thought", False):
        heading = "Thought"
    elif event.type == "note" and event.text and told.pop("late", False):
        heading = "Added to the answer before"
    elif event.type == "result":
        usage = told.pop("usage", None)
        if isinstance(usage, Mapping):
            told |= cast(Mapping[str, Any], usage)
        ended = ", ".join(f"{name}: {value}" for name, value in told.items() if name != "stop_reason")
        return Part(heading, "\n".join(filter(None, (str(told.get("stop_reason") or ""), ended))), event.time)
    elif event.type == "error":
        return Part(heading, told.get("traceback") or event.text or "", event.time)
    if told.get("tool") == event.text:
        told.pop("tool", None)
    return Part(heading, _joined(event.text, told), event.time)


def _joined(text: Any, told: Mapping[str, Any]) -> str:
    return "\n".join([*([str(text)] if text else []), *([pretty(dict(told))] if told else [])])


def _code(text: str) -> str:
    """A block that every dialect of Markdown, also those without fences, takes as code to its end."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _inert(text: str) -> str:
    """One line without anything that means something in Markdown, HTML or TeX: it is written by number.

    MathJax sees what the numbers became, but leaves code alone; TeX begins with a dollar or a backslash.
    """
    return "".join(_inert_character(character) for character in " ".join(text.split()))


def _inert_character(character: str) -> str:
    if character in "$\\":
        return f"<code>&#{ord(character)};</code>"
    return f"&#{ord(character)};" if character in "`*_{}[]()<>#+!|~&\"'" else character
