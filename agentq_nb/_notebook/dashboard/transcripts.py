"""Transcripts as blocks: the pieces of an answer joined, limited in number and length."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from agentq_nb._display.document import LONGEST_TEXT, safe
from agentq_nb.agent_os import SessionEvent

MOST_BLOCKS = 120
_LONGEST_BLOCK = 8_000
_LONGEST_DATA = 2_000
_LONGEST_ANSWER = 400
_LONGEST_LINE = 120
_SAYING = {"prompt": "prompt: ", "tool_call": "tool: ", "error": "error: ", "permission_request": "asks: "}
_OF_NO_INTEREST = ("thought", "request_id", "id")


class Blocks:
    """The last blocks of a transcript. Events that arrive twice, from the log and live, count once."""

    def __init__(self, most: int = MOST_BLOCKS) -> None:
        self._most = most
        self._blocks: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.last = 0
        """The index of the last event."""

    def add(self, events: Iterable[SessionEvent]) -> None:
        """Add events, in their order."""
        for event in events:
            if event.index > self.last:
                self.last = event.index
                self._add(event)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)

    def _add(self, event: SessionEvent) -> None:
        text = safe(event.text or "", LONGEST_TEXT)
        if event.type == "text" and self._blocks:
            key, latest = next(reversed(self._blocks.items()))
            if latest["type"] == "text" and len(latest["text"]) + len(text) <= _LONGEST_BLOCK:
                self._blocks[key] = {**latest, "text": latest["text"] + text}
                return
        self._blocks[str(event.index)] = {
            "index": event.index,
            "type": event.type,
            "text": text,
            "time": event.time.timestamp(),
            "data": _data_text(event),
        }

    def section(self) -> dict[str, dict[str, Any]]:
        """Return the blocks by the index of their first event."""
        return dict(self._blocks)

    @property
    def first(self) -> int:
        """The index of the first event in the blocks; 0 if there is none."""
        return next((block["index"] for block in self._blocks.values()), 0)


def _data_text(event: SessionEvent) -> str:
    """Return the part of an event's data that a reader needs, as text."""
    data = {name: value for name, value in event.data.items() if value not in (None, "", [], {})}
    if event.type == "result":
        usage = data.get("usage")
        return str(data.get("stop_reason", "")) + (f" · {_compact(usage)}" if usage else "")
    if event.type == "error":
        return safe(str(data.get("traceback", "")), _LONGEST_DATA)
    if event.type == "permission_answer":  # its text says it all
        return ""
    shown = {name: value for name, value in data.items() if name not in _OF_NO_INTEREST}
    return _compact(shown) if shown else ""


def _compact(value: Any) -> str:
    return safe(json.dumps(value, ensure_ascii=False, default=str), _LONGEST_DATA)


def said_last(event: SessionEvent, answer: str) -> tuple[str, str]:
    """Return one short line with a session's latest activity, and its answer's end; ``answer`` is that end so far."""
    if event.type == "text":
        answer = (answer + (event.text or ""))[-_LONGEST_ANSWER:]
        return _line(answer), answer
    if event.type == "result":
        reason = str(event.data.get("stop_reason", ""))
        return (_line(answer) if reason == "end_turn" and answer else reason.replace("_", " ")), ""
    return f"{_SAYING.get(event.type, '')}{_line(event.text or '')}", answer if event.type == "note" else ""


def _line(text: str) -> str:
    line = " ".join(text[-_LONGEST_ANSWER:].split())
    return safe(line if len(line) <= _LONGEST_LINE else f"…{line[1 - _LONGEST_LINE :]}", _LONGEST_LINE)
