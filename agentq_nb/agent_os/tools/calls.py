"""Calls of host tools by one session's agent, written to the transcript before and after."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from agentq_nb._actor.message import describe
from agentq_nb._core.ids import mint_id
from agentq_nb._core.origin import Origin, under
from agentq_nb._core.redaction import Redactor
from agentq_nb.agent_os.tools.render import as_json, bounded, shown
from agentq_nb.agent_os.transcript import Transcript, storable
from agentq_nb.agent_os.values import FAILURES
from agentq_nb.errors import AgentqError

if TYPE_CHECKING:
    from agentq_nb.agent_os.tools.tool import HostTool


@dataclass(frozen=True)
class Answer:
    """The answer to an agent's call."""

    text: str
    failed: bool = False


class Calls:
    """The tools that one session's agent may call.

    :param origin: returns where the prompts came from that a process of the agent acts on: what tools do inherits it.
    """

    def __init__(
        self, tools: Mapping[str, HostTool], transcript: Transcript, redactor: Redactor, origin: Callable[[], Origin]
    ) -> None:
        self.tools = tools
        self._transcript = transcript
        self._redactor = redactor
        self._origin = origin
        self._running: set[anyio.CancelScope] = set()

    def cancel(self) -> None:
        """Cancel running calls; their callers get an error."""
        for scope in self._running:
            scope.cancel()

    async def answer(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """Call a tool for an agent outside this process. The answer contains errors, but no secrets."""
        if name not in self.tools:
            return Answer(f"There is no tool {name!r:.100}. There are: {', '.join(self.tools)}.", failed=True)
        with anyio.CancelScope() as scope:
            self._running.add(scope)
            try:
                with under(self._origin()):
                    _, text = await self._call(self.tools[name], arguments)
                return Answer(self._shown(text))
            except FAILURES as error:
                return Answer(self._shown(_error_text(error)), failed=True)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if scope.cancel_called or (task and task.cancelling()):
                    raise
                return Answer(f"{name} was cancelled by what it called.", failed=True)
            finally:
                self._running.discard(scope)
        return Answer(f"{name} was cancelled.", failed=True)

    def _shown(self, text: str) -> str:
        """Return the text without secrets and lone surrogates, which no message can carry."""
        return storable(self._redactor.text(text))

    def functions(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        """Return the tools for an agent in this process: coroutine functions with the signatures of the notebook's."""
        return {name: self._function(tool) for name, tool in self.tools.items()}

    def _function(self, tool: HostTool) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(tool.function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            value, _ = await self._call(tool, tool.bound(*args, **kwargs))
            return value

        return call

    async def _call(self, tool: HostTool, arguments: Mapping[str, Any]) -> tuple[Any, str]:
        """Return the value and its text. The call is on disk before it runs."""
        about: dict[str, Any] = {"id": mint_id(), "tool": tool.name, "host_tool": True}
        call = {**about, "input": as_json(dict(arguments))}
        about["status"], text = "cancelled", None
        begun = time.monotonic()
        try:
            await self._transcript.write("tool_call", tool.name, call)
            await self._transcript.durable()
            value = await tool.call(arguments)
            text = shown(value)
            about["status"] = "completed"
            return value, text
        except FAILURES as error:
            text = _error_text(error)
            about["status"] = "failed"
            if not isinstance(error, AgentqError):
                about["traceback"] = describe(error).get("traceback")
            raise
        finally:
            with anyio.CancelScope(shield=True):
                about["duration"] = round(time.monotonic() - begun, 6)
                await self._transcript.write("tool_result", text, about)


def _error_text(error: BaseException) -> str:
    """Describe an error for the caller, without its traceback, which is of no use to an agent."""
    if isinstance(error, AgentqError):
        return bounded(error.message)
    described = describe(error, with_traceback=False)
    return bounded(f"{described['type']}: {described['message']}")
