"""What was said in a session, as blocks: the pieces of an answer put together, bounded in number and length."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from agentq_nb.agent_os import SessionEvent
from agentq_nb.commands.sheets import LONGEST_TEXT, safe

MOST_BLOCKS = 120
_LONGEST_BLOCK = 8_000
_LONGEST_DATA = 2_000
_SAYING = {"prompt": "prompt: ", "tool_call": "tool: ", "error": "error: ", "permission_request": "asks: "}
_OF_NO_INTEREST = ("thought", "request_id", "id")


class Blocks:
    """The last blocks of a transcript. Events may come twice, from the log and live: each counts once."""

    def __init__(self, most: int = MOST_BLOCKS) -> None:
        self._most = most
        self._blocks: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.last = 0
        """The index of the last event."""

    def add(self, events: Iterable[SessionEvent]) -> None:
        """Take in events in their order."""
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
            "data": _told(event),
        }

    def section(self) -> dict[str, dict[str, Any]]:
        """The blocks by the index of their first event."""
        return dict(self._blocks)

    @property
    def first(self) -> int:
        """The index of the first event that is here; 0 when there is none."""
        return next((block["index"] for block in self._blocks.values()), 0)


def _told(event: SessionEvent) -> str:
    """What its data adds for a reader, as text."""
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


def snippet(event: SessionEvent) -> str:
    """One short line that says what a session is at."""
    if event.type == "result":
        return str(event.data.get("stop_reason", "")).replace("_", " ")
    line = " ".join((event.text or "")[-400:].split())
    return f"{_SAYING.get(event.type, '')}{safe(line[-120:], 120)}"
