"""Exchange JSON-RPC frames with an agent over the stdin and stdout of its process, and answer its requests."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import anyio
from acp import Client, RequestError
from acp.client.router import build_client_router
from acp.connection import Connection
from acp.schema import PermissionOption, RequestPermissionResponse, ToolCallUpdate

from agentq_nb.agent_os.agents.acp.frames import Line, answered_badly, read_line, sentence_of, shown_as_data
from agentq_nb.agent_os.agents.acp.limit_watch import RETRY_REPORT
from agentq_nb.agent_os.sandbox.open_process import OpenProcess

_DYING = 2.0  # seconds to learn how a process ended whose pipes are closed
_HOLDING = 1.0  # seconds for the agent to read a frame up to its end
_LOOKING = 0.001  # seconds between two checks whether it has
_TURNS_TO_READ = 3  # event loop turns from a readable pipe to the line being handled here
_NO_ANSWER = "its answer is broken, and no frame of the protocol"
_SAYS_NOTHING = ("", "internal error", "invalid params", "invalid request")
"""Error messages without content: the reason is in the error's data."""
_LARGEST_FRAME = 64 * 1024 * 1024  # bytes


class _LibraryLog:
    """Replaces the protocol library's ``logging``.

    The library calls ``logging.exception``, which configures the kernel's root logger if nothing else has, and prints a
    traceback of each agent that hangs up, which is reported as an error anyway.
    """

    log = logging.getLogger("agentq.acp")

    def exception(self, message: str, *args: Any, exc_info: Any = True) -> None:
        self.log.debug(message, *args, exc_info=exc_info)


for _name, _module in list(sys.modules.items()):
    if _name.startswith("acp.") and vars(_module).get("logging") is logging:
        vars(_module)["logging"] = _LibraryLog()


class Wire:
    """A process that speaks JSON-RPC, one frame a line. Closing it ends the process."""

    def __init__(
        self,
        process: OpenProcess,
        answers: object,
        update: Callable[[Mapping[str, Any]], Awaitable[None]],
        noise: Callable[[Line], Awaitable[None]],
    ) -> None:
        """``answers`` has a method for each request that the agent may make.

        ``update`` gets the agent's updates, and ``noise`` each line with anything but frames; both are awaited before
        the next line is read.
        """
        self._process = process
        self._update = update
        self._noise = noise
        self._updated = asyncio.Event()
        self.heard = 0
        """How many updates have come."""
        self._trouble: Exception | None = None
        self._idle = False
        self._lines = 0
        self._input = _Input(process, self._drained)
        self._frames = asyncio.StreamReader(limit=_LARGEST_FRAME)
        self._connection = Connection(
            build_client_router(cast(Client, answers)), cast(asyncio.StreamWriter, self._input), self._frames
        )
        # A context of its own: the task outlives the call that started it.
        reading = asyncio.get_running_loop().create_task
        self._reading = reading(self._read(), name="agentq agent output", context=contextvars.Context())

    @property
    def alive(self) -> bool:
        """Whether it can take a request."""
        return self._process.exit_code is None and not self._reading.done()

    async def request(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a request, with the protocol's names. Raises ``RequestError``, or ``ConnectionError`` if it ended."""
        answer = await self._connection.send_request(method, parameters)
        return cast(dict[str, Any], answer) if isinstance(answer, dict) else {}

    async def notify(self, method: str, **parameters: Any) -> None:
        """Send a notification."""
        await self._connection.send_notification(method, parameters)

    @property
    def written(self) -> int:
        """How many frames were sent to the agent."""
        return self._input.written

    @property
    def read(self) -> int:
        """How many of them the agent is known to have read: what it wrote before that is no answer to a later one."""
        return self._input.read()

    async def quiet(self, seconds: float, at_most: float) -> None:
        """Return when no update has come for ``seconds``, or after ``at_most`` seconds."""
        with anyio.move_on_after(at_most):
            while not self._reading.done():
                self._updated.clear()
                with anyio.move_on_after(seconds):
                    await self._updated.wait()
                if not self._updated.is_set():
                    return

    def hold_next(self) -> None:
        """Hold back the end of the next frame until the agent waits for it and all it wrote before has been handled.

        Until then it cannot answer that frame, which does not count as :attr:`read`.
        """
        self._input.hold_next = True

    async def _drained(self) -> None:
        """Return when all that the agent has written so far has been handled."""
        turns_without_news = 0
        while turns_without_news < _TURNS_TO_READ and not self._reading.done():
            lines = self._lines
            await asyncio.sleep(0)
            turns_without_news = turns_without_news + 1 if self._idle and lines == self._lines else 0

    async def how_it_ended(self, agent: str, when: str) -> str:
        """Return the error text for an agent that hung up."""
        code = await self._process.wait(_DYING)
        if self._trouble is not None:
            said = f"What agent '{agent}' wrote could not be taken {when}: {self._trouble}."
        elif code is None:
            said = f"Agent '{agent}' closed its output {when}."
        else:
            said = f"Agent '{agent}' ended {when} (exit code {code})."
        return said + self.last_words()

    def last_words(self) -> str:
        """Return the end of its stderr, as text to append. May contain secrets."""
        words = self._process.last_words()
        return f" Its last words:\n{words}" if words else ""

    async def aclose(self) -> None:
        """End the agent with all it started."""
        with anyio.CancelScope(shield=True):
            self._reading.cancel()
            with suppress(Exception):
                await self._connection.close()
            await self._process.aclose()
            await asyncio.wait({self._reading})

    def abandon(self) -> None:
        """Have the agent end without its event loop."""
        self._process.abandon()

    async def _read(self) -> None:
        """Dispatch what the agent writes. Updates are handled here, so that none overtakes another or the answer."""
        try:
            while line := await self._next_line():
                read = read_line(line)
                for frame in read.frames:
                    await self._take(frame)
                if read.rest.strip():
                    await self._noise(read)
                if (request := answered_badly(read)) is not None:
                    self._pass_on({"id": request, "error": {"code": -32603, "message": _NO_ANSWER}})
        except Exception as error:
            self._trouble = error
        finally:
            self._frames.feed_eof()

    async def _next_line(self) -> bytes:
        self._idle = True
        line = await self._process.output.readline()
        self._idle = False
        self._lines += 1
        return line

    async def _take(self, frame: dict[str, Any]) -> None:
        if frame.get("method") == RETRY_REPORT:
            await self._update({"sessionUpdate": RETRY_REPORT, "report": frame.get("params")})
        elif frame.get("method") == "session/update":
            self._updated.set()
            self.heard += 1
            update = _update(frame)
            if update is None:
                await self._noise(Line(rest=json.dumps(frame)))
            else:
                await self._update(update)
        elif "method" not in frame or "id" in frame:  # no other notifications are used
            self._pass_on(frame)

    def _pass_on(self, frame: dict[str, Any]) -> None:
        self._frames.feed_data(json.dumps(frame).encode() + b"\n")


class _Input:
    """The agent's stdin with the stream methods that the protocol's library needs: it alternates write and drain."""

    def __init__(self, process: OpenProcess, caught_up: Callable[[], Awaitable[None]]) -> None:
        self.written = 0
        self.hold_next = False
        self._process = process
        self._caught_up = caught_up
        self._held = b""
        self._read = 0

    def write(self, frame: bytes) -> None:
        self.read()
        if self.hold_next:
            frame, self._held, self.hold_next = frame[:-1], frame[-1:], False
        else:
            self.written += 1
        self._process.input.write(frame)

    async def drain(self) -> None:
        await self._process.input.drain()
        if self._held:
            with anyio.move_on_after(_HOLDING):
                while self._process.has_unread_input():  # noqa: ASYNC110  # the system has no event for it
                    await anyio.sleep(_LOOKING)
                await self._caught_up()
            end, self._held = self._held, b""
            self._process.input.write(end)
            self.written += 1
            await self._process.input.drain()

    def read(self) -> int:
        """Return how many frames the agent is known to have read."""
        if not self._process.has_unread_input():
            self._read = self.written
        return self._read


def _update(frame: dict[str, Any]) -> dict[str, Any] | None:
    """Return a frame's session update; None where its shape does not follow the protocol."""
    parameters = frame.get("params")
    update = cast(dict[str, Any], parameters).get("update") if isinstance(parameters, dict) else None
    reported = cast(dict[str, Any], update) if isinstance(update, dict) else {}
    return reported if isinstance(reported.get("sessionUpdate"), str) else None


def what_it_said(error: RequestError) -> str:
    """Return the agent's reason for refusing a request, as a sentence."""
    details: Any = getattr(error, "data", None)
    summary = sentence_of(str(error))
    said = sentence_of(details)
    if not said and details and summary.rstrip(".").lower() in _SAYS_NOTHING:
        said = shown_as_data(details)
    return f"{summary} ({said})" if said and said != summary else summary


class Answers:
    """Handles the agent's requests. It has files and a shell of its own, so none are offered."""

    def __init__(
        self, permission: Callable[[list[PermissionOption], ToolCallUpdate], Awaitable[RequestPermissionResponse]]
    ) -> None:
        self._permission = permission

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **kwargs: Any
    ) -> RequestPermissionResponse:
        return await self._permission(options, tool_call)


def option_for(options: list[PermissionOption], answer: str) -> PermissionOption | None:
    """Return the option with this answer, preferably the one that applies once."""
    word = "allow" if answer == "allow" else "reject"
    by_kind = {option.kind: option for option in reversed(options)}
    return by_kind.get(f"{word}_once") or by_kind.get(f"{word}_always")  # pyright: ignore[reportArgumentType]  # the kinds are a closed set of such words
