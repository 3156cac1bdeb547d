"""A session's transcript to read: as text, Markdown or DataFrame, and as HTML in notebooks."""

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
"""Selects the rows for :meth:`TranscriptView.of`; it joins the pieces of an answer to one row."""

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
    """One event of the view: a heading of ours, and the text. ``text`` may contain anything."""

    heading: str
    text: str
    time: datetime
    """UTC."""


@dataclass(frozen=True)
class TranscriptView:
    """A session's transcript, whole answers in one piece. ``print`` it, or see :meth:`markdown` and :meth:`frame`."""

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
        """Return the view of the rows that ``QUERY`` returns; with ``last``, only of the last ones."""
        shown = rows if last is None else rows[max(len(rows) - last, 0) :]
        events = [
            event_of(session_id, in_utc(time), {**as_mapping(data), "index": index, "type": kind, "text": text})
            for time, index, kind, text, data in shown
        ]
        return TranscriptView(session_id, actor_id, agent, status, events, len(rows) - len(shown))

    def parts(self) -> list[Part]:
        """Return each event with its heading, as all formats show it."""
        return [_part(event) for event in self.events]

    def __str__(self) -> str:
        """Return plain text that is safe for terminals; a text of over 20,000 characters is truncated with a mark."""
        blocks = [safe(self._title()), safe(self._facts())]
        for part in self.parts():
            lines = safe(part.text, LONGEST_TEXT).splitlines()
            blocks.append("\n".join([f"{safe(part.heading)}, {clock(part.time)}", *(f"  {line}" for line in lines)]))
        return "\n\n".join(blocks + self.remarks())

    def markdown(self) -> str:
        """Return Markdown, not truncated.

        What agents and users wrote is in code blocks, so that no Markdown dialect turns it into active HTML.
        """
        blocks = [f"# {_inert(self._title())}", _inert(self._facts())]
        for part in self.parts():
            blocks += [f"## {_inert(part.heading)}", clock(part.time)]
            if part.text.strip():
                blocks.append(_code(part.text))
        return "\n\n".join(blocks + self.remarks()) + "\n"

    def frame(self) -> Any:
        """Return a DataFrame with one row for each event: index, time (UTC), type, text, data.

        See :meth:`agentq_nb._core.result_table.Table.frame`.
        """
        rows = [(e.index, e.time.replace(tzinfo=None), e.type, e.text, json.dumps(dict(e.data))) for e in self.events]
        columns = {"index": "BIGINT", "time": "TIMESTAMP", "type": "VARCHAR", "text": "VARCHAR", "data": "JSON"}
        return Table(list(columns), rows, list(columns.values())).frame()

    def _title(self) -> str:
        return f"Session {self.session_id} with {self.agent}"

    def _facts(self) -> str:
        return f"{self.actor_id}, {self.status}"

    def remarks(self) -> list[str]:
        """Return sentences to show after the events."""
        if self.left_out:
            return [f"{self.left_out:,} earlier events are left out."]
        return [] if self.events else ["Nothing was said yet."]


async def read_transcript(
    records: Records, session_id: str, actor_id: str, agent: str, status: str, last: int | None
) -> TranscriptView:
    """Return the view of a session from the log."""
    return TranscriptView.of(session_id, actor_id, agent, status, await records.fetch(QUERY, (session_id,)), last)


def clock(time: datetime) -> str:
    """Return a time as transcripts show it."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _part(event: SessionEvent) -> Part:
    heading, facts = _HEADINGS.get(event.type, event.type), dict(event.data)
    if event.type == "permission_answer":
        answer, by = facts.pop("answer", None), facts.pop("by", None)
        heading = f"{_ANSWERS.get(str(answer), 'Answered')} {_ANSWERED_BY.get(str(by), '')}".rstrip()
        facts.pop("request_id", None)
    elif event.type == "note" and facts.pop("thought", False):
        heading = "Thought"
    elif event.type == "note" and event.text and facts.pop("late", False):
        heading = "Added to the answer before"
    elif event.type == "result":
        usage = facts.pop("usage", None)
        if isinstance(usage, Mapping):
            facts |= cast(Mapping[str, Any], usage)
        ended = ", ".join(f"{name}: {value}" for name, value in facts.items() if name != "stop_reason")
        return Part(heading, "\n".join(filter(None, (str(facts.get("stop_reason") or ""), ended))), event.time)
    elif event.type == "error":
        return Part(heading, facts.get("traceback") or event.text or "", event.time)
    if facts.get("tool") == event.text:
        facts.pop("tool", None)
    return Part(heading, _joined(event.text, facts), event.time)


def _joined(text: Any, facts: Mapping[str, Any]) -> str:
    return "\n".join([*([str(text)] if text else []), *([pretty(dict(facts))] if facts else [])])


def _code(text: str) -> str:
    """Return a block that every Markdown dialect, including those without fences, takes as code to its end."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _inert(text: str) -> str:
    """Return one line in which characters special to Markdown, HTML or TeX are replaced by their numbers.

    MathJax sees the decoded characters, but ignores code; TeX begins with a dollar or a backslash.
    """
    return "".join(_inert_character(character) for character in " ".join(text.split()))


def _inert_character(character: str) -> str:
    if character in "$\\":
        return f"<code>&#{ord(character)};</code>"
    return f"&#{ord(character)};" if character in "`*_{}[]()<>#+!|~&\"'" else character
