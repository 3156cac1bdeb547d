"""Run one prompt: record it, let the agent answer, and record and return the result."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from agentq_nb._actor.message import describe
from agentq_nb._core import interrupts
from agentq_nb._core.origin import PROCESS, least_trusted
from agentq_nb._core.redaction import Redactor
from agentq_nb._core.safe_text import is_safe
from agentq_nb._policies.provider_limits import ProviderLimit
from agentq_nb.agent_os.agent import LATE, THOUGHT, Agent, AgentEvent, AgentSession
from agentq_nb.agent_os.provider_limits import limit_of, prompt_error, report_of
from agentq_nb.agent_os.sessions.session import Session
from agentq_nb.agent_os.transcript import Transcript, storable
from agentq_nb.agent_os.values import FAILURES, PromptResult
from agentq_nb.errors import AgentqError, IsolationUnavailable, PromptFailed, RateLimited


async def take_turn(
    session: Session,
    agent: Agent,
    view: AgentSession,
    prompt: str,
    redactor: Redactor,
    begin: Callable[[], Awaitable[None]],
) -> PromptResult:
    """Let ``agent`` answer ``prompt``. The prompt is on disk before the agent gets it, and then ``begin`` is awaited.

    A turn cancelled through ``session.cancel`` returns a result with the stop reason ``"cancelled"``; when the task
    itself is cancelled, the cancellation propagates. Raises ``PromptFailed`` with what the agent raised as its cause, or
    ``RateLimited`` when its provider's limit is reached.
    """
    transcript = session.transcript
    output = _TurnOutput(transcript, redactor)
    task = asyncio.current_task()
    asked_to_stop = task.cancelling() if task else 0
    failure: BaseException | None = None
    with anyio.CancelScope() as scope:
        session.cancel = scope.cancel
        try:
            await _work(session, agent, view, prompt, output, begin)
        except FAILURES as error:
            failure = error
        except BaseException:
            view.stopped.set()
            if not scope.cancel_called:
                await _record_end(transcript, output, "cancelled")
            raise
        finally:
            session.cancel = None
    # An agent that swallows its cancellation was cancelled all the same.
    swallowed = task is not None and task.cancelling() > asked_to_stop
    if scope.cancel_called or swallowed:
        await _record_end(transcript, output, "cancelled")
        if swallowed:
            raise asyncio.CancelledError
        return await output.result("cancelled")
    if failure is not None:
        raise await _failed(failure, agent, session, redactor, _limit_met(view))
    await _record_end(transcript, output, output.stop_reason)
    result = await output.result(output.stop_reason)
    if session.history is not None:
        output.remember(session.history, prompt, result.text)
    return result


async def _work(
    session: Session,
    agent: Agent,
    view: AgentSession,
    prompt: str,
    output: _TurnOutput,
    begin: Callable[[], Awaitable[None]],
) -> None:
    await session.transcript.end_stream()  # text from between the turns is complete
    session.origin = least_trusted(session.origin, view.origin)
    await session.transcript.write("prompt", prompt, None if view.origin == PROCESS else {"origin": view.origin})
    await session.transcript.durable()
    await begin()
    try:
        await agent.prompt(view, prompt, output.emit)
    finally:
        with anyio.CancelScope(shield=True):
            await session.requests.withdraw("the prompt ended")


class _TurnOutput:
    """An agent's output in this turn. The last of it may come after the turn has ended."""

    def __init__(self, transcript: Transcript, redactor: Redactor) -> None:
        self.stop_reason = "end_turn"
        self.usage: Mapping[str, Any] | None = None
        self.more: dict[str, Any] = {}
        self._transcript = transcript
        self._redactor = redactor
        self._pieces: list[str] = []
        self._tool_calls: list[Mapping[str, Any]] = []
        self._remembered: tuple[list[tuple[str, str]], int] | None = None

    async def emit(self, event: AgentEvent) -> None:
        data: dict[str, Any] = storable(dict(event.data))
        if event.type == "result":
            self.stop_reason = str(data.pop("stop_reason", self.stop_reason))
            self.usage = data.pop("usage", self.usage)
            self.more |= data
        elif event.type == "text":
            await self.stream(event.text or "")
        else:
            if event.type == "tool_call":
                self._tool_calls.append(self._redactor.data({"text": event.text, **data}))
            if event.type == "note" and LATE in data and THOUGHT not in data:
                self._add(event.text or "")
            await self._transcript.write(event.type, event.text, data)

    async def stream(self, text: str) -> None:
        self._add(text)
        await self._transcript.stream(text)

    def remember(self, history: list[tuple[str, str]], prompt: str, text: str) -> None:
        """Add the turn to the history; its answer there grows when more comes."""
        self._remembered = history, len(history)
        history.append((prompt, text))

    async def result(self, stop_reason: str) -> PromptResult:
        text = await self._redactor.long_text("".join(self._pieces))
        return PromptResult(text, stop_reason, self._redactor.data(self.usage), tuple(self._tool_calls))

    def _add(self, text: str) -> None:
        if self._remembered is None:
            self._pieces.append(text)
            return
        history, index = self._remembered
        prompt, answer = history[index]
        history[index] = prompt, answer + self._redactor.text(text)


async def _record_end(transcript: Transcript, output: _TurnOutput, stop_reason: str) -> None:
    with anyio.CancelScope(shield=True):
        await transcript.end_stream()
        await transcript.write("result", data={**output.more, "stop_reason": stop_reason, "usage": output.usage})
        await transcript.durable()


def _limit_met(view: AgentSession) -> ProviderLimit | None:
    """Return the provider's limit that the turn's last request met, where all of them pass through the meter."""
    turn = None if view.models is None else view.models.turn
    return None if turn is None else turn.limit


async def _failed(
    error: BaseException, agent: Agent, session: Session, redactor: Redactor, limit: ProviderLimit | None
) -> AgentqError:
    """Record the failure, and return the error for the caller. ``limit`` is the provider's limit that it met, if known."""
    whole = "".join(traceback.format_exception(error))
    redacted = redactor.text(whole)
    shown = redactor.text(describe(error).get("traceback", ""))
    summary = redactor.text(f"{type(error).__name__}: {error}")
    with anyio.CancelScope(shield=True):
        await session.transcript.end_stream()
        await session.transcript.write("error", summary, {"traceback": shown})
        await session.transcript.durable()
    # Every traceback shows the cause: one that would reveal a secret, or confuse the terminal or the page, is omitted,
    # and its redacted text is kept.
    harmless = redacted == whole and is_safe(whole)
    if limit is not None and not isinstance(error, IsolationUnavailable):
        report = redactor.text(report_of(error))
        return _caused(prompt_error(limit, agent.name, session.info.session_id, report), error if harmless else None)
    if redacted == whole and isinstance(error, (PromptFailed, IsolationUnavailable, RateLimited)):
        return error
    if isinstance(error, RateLimited):
        return _redacted(error, redactor)
    if (limit := limit_of(error)) is not None:
        return _caused(prompt_error(limit, agent.name, session.info.session_id, summary), error if harmless else None)
    failed = PromptFailed(
        f"Agent '{agent.name}' failed in session {session.info.session_id}: {summary}",
        metadata={
            "session_id": session.info.session_id,
            "agent": agent.name,
            "traceback": shown,
            **interrupts.marked(error),
        },
    )
    return _caused(failed, error if harmless else None)


def _caused(error: AgentqError, cause: BaseException | None) -> AgentqError:
    error.__cause__, error.__suppress_context__ = cause, True
    return error


def _redacted(error: RateLimited, redactor: Redactor) -> RateLimited:
    """Return a copy of the error without secrets; it ends when the original does."""
    copy = RateLimited(redactor.text(error.message))
    copy.metadata = redactor.data(error.metadata)
    return copy
