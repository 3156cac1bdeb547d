"""Convert an agent's ACP updates to events of a transcript."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast

from agentq_nb.agent_os.agent import LATE, THOUGHT, AgentEvent
from agentq_nb.agent_os.agents.acp.limit_watch import RETRY_REPORT

Json: TypeAlias = Mapping[str, Any]

_OF_NO_INTEREST = {
    "available_commands_update",
    "config_option_update",
    "current_mode_update",
    "session_info_update",
    "usage_update",
    "user_message_chunk",
    RETRY_REPORT,
}
_OF_CALL = ("title", "kind", "content", "locations", "rawInput")
_ENDED = ("completed", "failed")


class Updates:
    """The updates of one turn: joins the pieces of thoughts, and merges the updates of each tool call."""

    def __init__(self) -> None:
        self.text_came = False
        """Whether the agent has sent any text."""
        self.overtaken = False
        """Whether the next turn has started. From then on events are marked as late, and text becomes a note."""
        self._late: list[str] = []
        self._thoughts: list[str] = []
        self._tools: dict[str, dict[str, Any]] = {}
        self._calls: dict[str, dict[str, Any]] = {}
        """The merged updates of the tool calls that have not ended, with the protocol's field names."""

    def events(self, update: Json) -> Iterator[AgentEvent]:
        """Yield the events for ``update``."""
        kind = update.get("sessionUpdate")
        if kind in _OF_NO_INTEREST:
            return
        if kind == "agent_thought_chunk":
            self._thoughts.append(_text(update.get("content")))
        elif kind == "agent_message_chunk" and self.overtaken:
            self._late.append(_text(update.get("content")))
        else:
            yield from self.finish()
            yield from map(self._marked, self._events_of(update))

    def finish(self) -> Iterator[AgentEvent]:
        """Yield the remaining events when no more updates come."""
        thoughts, self._thoughts = "".join(self._thoughts), []
        if thoughts:
            yield self._marked(AgentEvent("note", thoughts, {THOUGHT: True}))
        late, self._late = "".join(self._late), []
        if late:
            yield self._marked(AgentEvent("note", late))

    def knows_tool(self, update: Json) -> bool:
        """Whether the update is about a tool call known here."""
        return str(update.get("toolCallId")) in self._tools

    def tool_call(self, identity: str) -> Json:
        """Return the merged updates of an unfinished tool call. A later update replaces only the fields that it has."""
        return self._calls.get(identity, {})

    def _marked(self, event: AgentEvent) -> AgentEvent:
        return replace(event, data={**event.data, LATE: True}) if self.overtaken else event

    def _events_of(self, update: Json) -> Iterator[AgentEvent]:
        kind = update.get("sessionUpdate")
        if kind == "agent_message_chunk":
            yield from self._message(update.get("content"))
        elif kind in ("tool_call", "tool_call_update"):
            yield from self._tool(update)
        elif kind == "plan":
            yield AgentEvent("note", data={"plan": update.get("entries")})
        else:
            yield AgentEvent("note", data={"update": update})

    def _message(self, content: Any) -> Iterator[AgentEvent]:
        text = _text(content)
        if text:
            self.text_came = self.text_came or bool(text.strip())
            yield AgentEvent("text", text)
        elif isinstance(content, Mapping) and cast(Json, content).get("type") != "text":
            yield AgentEvent("note", data={"content": content})

    def _tool(self, update: Json) -> Iterator[AgentEvent]:
        identity = str(update.get("toolCallId"))
        first = identity not in self._tools
        call = {name: update[name] for name in _OF_CALL if update.get(name) is not None}
        self._calls[identity] = {**self._calls.get(identity, {}), **call}
        known = self._tools.setdefault(identity, {"id": identity})
        named = {"title": "title", "kind": "kind", "status": "status", "rawInput": "input", "rawOutput": "output"}
        for theirs, ours in named.items():
            if update.get(theirs) is not None:
                known[ours] = update[theirs]
        if text := _texts(update.get("content")):
            known["text"] = text
        rest = {name: value for name, value in known.items() if name not in ("title", "text", "output")}
        if first:
            yield AgentEvent("tool_call", known.get("title"), {**rest, "tool": known.get("title")})
        if update.get("status") in _ENDED:
            self._calls.pop(identity, None)
            output = {"output": known["output"]} if "output" in known else {}
            yield AgentEvent("tool_result", known.get("text"), {**rest, "tool": known.get("title"), **output})


def _text(content: Any) -> str:
    """Return the text of a content block; empty for one of another kind."""
    if not isinstance(content, Mapping):
        return ""
    text = cast(Json, content).get("text")
    return text if isinstance(text, str) else ""


def _texts(contents: Any) -> str:
    """Return the texts of a tool's output."""
    if not isinstance(contents, list):
        return ""
    blocks = [cast(Json, block) for block in cast(list[Any], contents) if isinstance(block, Mapping)]
    return "\n".join(filter(None, (_text(block.get("content")) for block in blocks)))
