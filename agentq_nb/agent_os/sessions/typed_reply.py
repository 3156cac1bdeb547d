"""Typed answers: an agent gets the type of its answer as a JSON Schema, and is asked again when the answer does not fit."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from agentq_nb._core.codec import Schema
from agentq_nb._core.json_in_text import find_json, inner_json
from agentq_nb._core.threads import in_long_thread
from agentq_nb.agent_os.agent import Agent
from agentq_nb.agent_os.sessions.session import Session
from agentq_nb.agent_os.values import PromptResult
from agentq_nb.errors import ReplyInvalid, ValidationFailed

_REPEATS = 2
"""How often an agent is asked again."""

_MOST_CANDIDATES = 1000
"""How many values of an answer are tried, the last ones."""
_MOST_WRAPPINGS = 3
_LONG = 64 << 10
"""Characters of an answer that are searched without blocking the loop for long."""
_LONGEST_REASON = 2000
_KEPT = 64 << 10
"""Characters of the last answer that its error keeps."""

_WHAT = "The answer"

Ask = Callable[[str], Awaitable[PromptResult]]


class ReplyType:
    """The declared type of an answer: any type that pydantic can validate. Raises ``actor.validation_error``.

    :ivar json_schema: the type as a JSON Schema.
    :ivar instructions: text that an agent gets in addition to the prompt.
    """

    def __init__(self, declared: Any) -> None:
        if isinstance(declared, (str, bytes, int, float, dict, list, tuple, set)):
            raise ValidationFailed(f"reply takes a type, such as a pydantic model or list[str], not {declared!r:.100}.")
        try:
            self._schema: Schema[Any] = Schema(declared)
            self.json_schema = self._schema.json_schema()
        except (PydanticUserError, PydanticInvalidForJsonSchema) as error:
            raise ValidationFailed(
                f"reply takes a type that pydantic can validate and describe as a JSON Schema. {str(error).splitlines()[0]}"
            ) from None
        self.name = self._schema.name
        # Some agents append it to the prompt, as if it were its last line.
        self.instructions = (
            "\n\nEnd your answer with one JSON value that fits the following JSON Schema, and write nothing after it:\n\n"
            + json.dumps(self.json_schema, ensure_ascii=False)
        )

    def find(self, text: str) -> Any:
        """Return the last JSON value in a text that fits the type. Raises ``actor.validation_error`` with the reason.

        A value that is cut off counts as the last one: those before it may be drafts. A number, string, boolean or null
        within a line of prose counts only if no other one there fits.
        """
        found = find_json(text)
        if found.cut_off:
            raise ValidationFailed(f"{_WHAT} ends within its JSON value.")
        failed: ValidationFailed | None = None
        for candidate in reversed(found.values[-_MOST_CANDIDATES:]):
            try:
                return self._unwrapped(candidate)
            except ValidationFailed as error:
                failed = failed or error
        fitting: dict[str, Any] = {}
        for number, candidate in enumerate(found.inline()):
            if len(fitting) > 1 or number >= _MOST_CANDIDATES:
                raise ValidationFailed(
                    f"{_WHAT} has several values within its sentences, so it is not clear which is meant."
                )
            try:
                fitting[candidate] = self._load(candidate)
            except ValidationFailed as error:
                failed = failed or error
        if len(fitting) == 1:
            return next(iter(fitting.values()))
        if len(fitting) > 1:
            raise ValidationFailed(
                f"{_WHAT} has several values within its sentences, so it is not clear which is meant."
            )
        raise failed or ValidationFailed(f"{_WHAT} has no JSON value.")

    def plain(self, value: Any) -> Any:
        """Return an answer of this type as plain JSON values."""
        return json.loads(self._schema.encode(value, _WHAT))

    def _unwrapped(self, candidate: str) -> Any:
        """Return the value, or the one that it wraps. Raises ``actor.validation_error`` with the reason of the outer one."""
        try:
            return self._load(candidate)
        except ValidationFailed as error:
            inner: str | None = candidate
            for _ in range(_MOST_WRAPPINGS):
                if (inner := inner_json(inner)) is None:
                    break
                try:
                    return self._load(inner)
                except ValidationFailed:
                    continue
            raise error

    def _load(self, candidate: str) -> Any:
        try:
            value = self._schema.load(candidate.encode(), _WHAT)
        except UnicodeEncodeError:
            raise ValidationFailed(f"{_WHAT} has a lone surrogate (half a character).") from None
        self._schema.encode(value, _WHAT)  # NaN and infinity are read, but could not be sent
        return value


async def answer_typed(ask: Ask, prompt: str, wanted: ReplyType, session: Session, agent: Agent) -> PromptResult:
    """Ask for an answer of a type, and again with the reason, at most twice, until it fits.

    The result has the last answer's text and the tool calls of all turns. When a turn is cancelled, its result is returned
    without a reply. Raises ``ReplyInvalid``, and what ``ask`` raises.
    """
    results: list[PromptResult] = []
    repeats = 0 if getattr(agent, "answers_once", False) else _REPEATS
    reason, cancels = "", session.cancels
    session.answers_typed = True
    try:
        for text in (prompt, *([""] * repeats)):
            result = await ask(text or _again(reason))
            results.append(result)
            if result.stop_reason == "cancelled" or session.cancels != cancels:
                return _joined(results, "cancelled", None)
            try:
                return _joined(results, result.stop_reason, await _found(wanted, result.text))
            except ValidationFailed as error:
                reason = _reason(error, result.stop_reason)
        error = _invalid(session, wanted, results, reason)
        await session.transcript.write("error", error.message)
        await session.transcript.durable()
        raise error
    finally:
        session.answers_typed = False


async def _found(wanted: ReplyType, text: str) -> Any:
    return wanted.find(text) if len(text) < _LONG else await in_long_thread(wanted.find, text)


def _again(reason: str) -> str:
    return (
        f"Your answer cannot be used. {reason} Give the whole answer again, as one JSON value that fits the JSON Schema "
        "that you were given, and write nothing else."
    )


def _reason(error: ValidationFailed, stop_reason: str) -> str:
    said = error.message
    if stop_reason not in ("end_turn", ""):
        said = f"{said} You stopped before its end: {stop_reason}."
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"


def _joined(results: Sequence[PromptResult], stop_reason: str, reply: Any) -> PromptResult:
    """Return several turns as one."""
    tool_calls = tuple(call for result in results for call in result.tool_calls)
    usage = _usage([result.usage for result in results if result.usage is not None])
    return PromptResult(results[-1].text, stop_reason, usage, tool_calls, reply)


def _usage(usages: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the usage of all turns: the sum, or the last one where each covers something other than its turn."""
    if not usages or usages[-1].get("covers", "turn") != "turn":
        return usages[-1] if usages else None
    total: dict[str, Any] = dict(usages[0])
    for usage in usages[1:]:
        for name, value in usage.items():
            total[name] = total[name] + value if _is_number(value) and _is_number(total.get(name)) else value
    return total


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _invalid(session: Session, wanted: ReplyType, results: Sequence[PromptResult], reason: str) -> ReplyInvalid:
    text, times = results[-1].text, len(results)
    error = ReplyInvalid(session.info.agent, session.info.session_id, wanted.name, times, reason)
    error.metadata["text"] = text if len(text) <= _KEPT else f"…{text[-_KEPT:]}"
    return error
