"""One agent's process and what is said to and fro on its stdin and stdout. Imported when an agent is started."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeAlias, cast

import anyio
import anyio.to_thread
from acp import PROTOCOL_VERSION, Client, RequestError, text_block
from acp.client.connection import ClientSideConnection
from acp.schema import (
    AcpMcpServer,
    AllowedOutcome,
    ClientCapabilities,
    DeniedOutcome,
    FileSystemCapabilities,
    HttpHeader,
    HttpMcpServer,
    Implementation,
    InitializeResponse,
    McpServerStdio,
    PermissionOption,
    PromptResponse,
    RequestPermissionResponse,
    SseMcpServer,
    ToolCallUpdate,
)

from agentq_nb.agent_os.agents.acp_agent import AcpAgent
from agentq_nb.agent_os.agents.acp_updates import Updates
from agentq_nb.agent_os.agents.agent import AgentEvent, AgentSession, Emit
from agentq_nb.agent_os.open_process import OpenProcess
from agentq_nb.agent_os.tools import NAME, Door
from agentq_nb.agent_os.values import PermissionRequest
from agentq_nb.agent_os.workspace import Workspace
from agentq_nb.errors import AgentError, PromptFailed

_STARTING = 60.0  # seconds until a started agent must be ready
_CANCELLING = 2.0  # seconds for a cancelled agent to end its turn; then its process is ended
_DYING = 2.0  # seconds to learn how a process ended whose pipes are closed
McpServer: TypeAlias = HttpMcpServer | SseMcpServer | AcpMcpServer | McpServerStdio
_LARGEST_FRAME = 64 * 1024 * 1024  # bytes


async def begin(
    process: OpenProcess, cwd: str, session: AgentSession, agent: AcpAgent, briefing: str, door: Door | None
) -> Conversation:
    """Greet the agent and open a session with it. Raises ``AgentError``; ``process`` is ended then, and ``door`` shut."""
    conversation = Conversation(process, session, agent, briefing, door)
    try:
        with anyio.fail_after(_STARTING):
            await conversation.greet(cwd)
    except TimeoutError:
        await conversation.aclose()
        silent = f"Agent '{agent.name}' did not get ready within {_STARTING:g} s."
        raise AgentError(silent + _appended(process.last_words()), code="not_ready") from None
    except BaseException:
        await conversation.aclose()
        raise
    return conversation


class Conversation:
    """An agent that runs. What it tells reaches the transcript in the order in which it was told."""

    def __init__(
        self, process: OpenProcess, session: AgentSession, agent: AcpAgent, briefing: str, door: Door | None
    ) -> None:
        self._process = process
        self._session = session
        self._agent = agent
        self._briefing = briefing
        self._door = door
        self._remark = ""
        self._session_id = ""
        self._emit: Emit | None = None
        self._updates = Updates()
        self._cancelled = False
        self._asking: set[anyio.CancelScope] = set()
        self._noise = 0
        self._trouble: Exception | None = None
        self._frames = asyncio.StreamReader(limit=_LARGEST_FRAME)
        self._connection = ClientSideConnection(cast(Client, _Answers(self)), process.input, self._frames)
        # A context of its own: this goes on after the call that started it.
        reading = asyncio.get_running_loop().create_task
        self._reading = reading(self._read(), name="agentq agent output", context=contextvars.Context())

    @property
    def alive(self) -> bool:
        """Whether it can take a prompt."""
        return self._process.exit_code is None and not self._reading.done()

    async def greet(self, cwd: str) -> None:
        """Make the agent ready, with ``cwd`` as it sees it. Raises ``AgentError``."""
        nothing = ClientCapabilities(fs=FileSystemCapabilities(read_text_file=False, write_text_file=False))
        us = Implementation(name="agentq-nb", version="0.1.0")
        try:
            it = await self._connection.initialize(PROTOCOL_VERSION, client_capabilities=nothing, client_info=us)
            opened = await self._connection.new_session(cwd=cwd, mcp_servers=self._host_tools(it))
            self._session_id = opened.session_id
            if self._agent.mode:
                await self._connection.set_session_mode(session_id=self._session_id, mode_id=self._agent.mode)
        except ConnectionError:
            await self._raise_ended("before it was ready")
        except RequestError as error:
            raise AgentError(
                f"Agent '{self._agent.name}' could not open a session: {_said(error)}. {self._agent.hint}".rstrip(),
                code="not_ready",
            ) from None

    async def prompt(self, text: str, emit: Emit) -> None:
        """One turn. Raises ``PromptFailed``; when cancelled, the agent is told, and has ended its turn on return."""
        self._emit, self._updates, self._cancelled, self._noise = emit, Updates(), False, 0
        if self._remark:
            await emit(AgentEvent("note", self._remark))
            self._remark = ""
        # Beside the prompt, whose text stays as it is.
        blocks = [text_block(part) for part in (text, self._briefing) if part]
        request = asyncio.create_task(self._connection.prompt(session_id=self._session_id, prompt=list(blocks)))
        try:
            response = await asyncio.shield(request)
        except asyncio.CancelledError:
            await self._cancel(request)
            raise
        except ConnectionError:
            await self._raise_ended("in the middle of a prompt")
        except RequestError as error:
            failed = f"Agent '{self._agent.name}' could not answer: {_said(error)}. {self._agent.hint}"
            raise PromptFailed(failed.rstrip()) from None
        finally:
            self._emit = None
        self._briefing = ""
        for event in self._updates.finish():
            await emit(event)
        await self._finish(response, emit)

    async def aclose(self) -> None:
        """End the agent with all it started."""
        with anyio.CancelScope(shield=True):
            self._reading.cancel()
            if self._door is not None:
                await self._door.aclose()
            with suppress(Exception):
                await self._connection.close()
            await self._process.aclose()
            await asyncio.wait({self._reading})

    async def permission(self, options: list[PermissionOption], tool_call: ToolCallUpdate) -> RequestPermissionResponse:
        """Answer the agent that asks whether it may."""
        given = tool_call.model_dump(mode="json", by_alias=True, exclude_none=True)
        title = tool_call.title or "a tool"
        asked = PermissionRequest(self._session.session_id, self._agent.name, title, given.get("kind"), given)
        option = None
        if self._emit is not None and not self._cancelled:
            with anyio.CancelScope() as scope:
                self._asking.add(scope)
                option = _option(options, await self._session.permit(asked))
            self._asking.discard(scope)
        if option is None or self._cancelled:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=option.option_id))

    def _host_tools(self, it: InitializeResponse) -> list[McpServer]:
        """How the agent reaches the notebook's tools, where there are any and it can."""
        if self._door is None or self._agent.bridge is not None:
            return []
        able = it.agent_capabilities and it.agent_capabilities.mcp_capabilities
        if not (able and able.http):
            self._remark = f"The tools of the notebook were not offered: {self._agent.name} takes none over HTTP."
            return []
        token = HttpHeader(name="Authorization", value=f"Bearer {self._door.token}")
        return [HttpMcpServer(type="http", name=NAME, url=self._door.url, headers=[token])]

    async def _finish(self, response: PromptResponse, emit: Emit) -> None:
        if self._agent.hidden_error is not None and response.stop_reason == "end_turn":
            await self._look_for_error(self._agent.hidden_error)
        data: dict[str, Any] = {"stop_reason": response.stop_reason}
        if response.usage is not None:
            data["usage"] = {"source": "agent", **response.usage.model_dump(mode="json", exclude_none=True)}
        await emit(AgentEvent("result", data=data))

    async def _look_for_error(self, look: Callable[[Workspace, str], str | None]) -> None:
        error = await anyio.to_thread.run_sync(look, self._session.workspace, self._session_id)
        if error is not None:
            failed = f"Agent '{self._agent.name}' got an error from its language model: {error}"
            raise PromptFailed(f"{failed.rstrip('.')}. {self._agent.hint}")
        if not self._updates.text_came:
            silent = "ended its turn without a word, as it does when its language model answers with an error."
            raise PromptFailed(
                f"Agent '{self._agent.name}' {silent} {self._agent.hint}" + _appended(self._process.last_words())
            )

    async def _cancel(self, request: asyncio.Task[PromptResponse]) -> None:
        """Ask for the end of the turn; an agent that goes on all the same is ended itself."""
        self._cancelled = True
        for asking in self._asking:
            asking.cancel()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_CANCELLING), suppress(Exception):
                await self._connection.cancel(session_id=self._session_id)
                if self._door is not None:
                    self._door.calls.cancel()
                await asyncio.wait({request})
            if request.done():
                with suppress(Exception):
                    request.result()
                return
            request.cancel()
            await self.aclose()

    async def _read(self) -> None:
        """Pass on what the agent writes. Updates are told here, so that none overtakes another or the answer."""
        try:
            while line := await self._process.output.readline():
                frame = _frame(line)
                if frame is None:
                    await self._note_noise(len(line))
                elif frame.get("method") == "session/update":
                    await self._tell(frame)
                else:
                    self._frames.feed_data(line)
        except Exception as error:
            self._trouble = error
        finally:
            self._frames.feed_eof()

    async def _tell(self, frame: dict[str, Any]) -> None:
        parameters = frame.get("params")
        update = cast(dict[str, Any], parameters).get("update") if isinstance(parameters, dict) else None
        if self._emit is None or not isinstance(update, dict):
            return
        for event in self._updates.events(cast(dict[str, Any], update)):
            await self._emit(event)

    async def _note_noise(self, size: int) -> None:
        """Say once a turn that there was something, but not what: nobody knows what is in it."""
        self._noise += 1
        if self._emit is not None and self._noise == 1:
            text = f"The agent wrote a line of {size} bytes that is no frame of the protocol; it was left out."
            await self._emit(AgentEvent("note", text))

    async def _raise_ended(self, when: str) -> NoReturn:
        code = await self._process.wait(_DYING)
        if self._trouble is not None:
            failed = f"What agent '{self._agent.name}' wrote could not be taken {when}: {self._trouble}."
        elif code is None:
            failed = f"Agent '{self._agent.name}' closed its output {when}."
        else:
            failed = f"Agent '{self._agent.name}' ended {when} (exit code {code})."
        raise PromptFailed(failed + _appended(self._process.last_words())) from None


class _Answers:
    """What the agent may ask of us. It has files and a shell of its own, so it is offered none."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **kwargs: Any
    ) -> RequestPermissionResponse:
        return await self._conversation.permission(options, tool_call)


def _frame(line: bytes) -> dict[str, Any] | None:
    try:
        frame = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], frame) if isinstance(frame, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _option(options: list[PermissionOption], answer: str) -> PermissionOption | None:
    """The option that says this, for this time if there is such a one."""
    word = "allow" if answer == "allow" else "reject"
    by_kind = {option.kind: option for option in reversed(options)}
    return by_kind.get(f"{word}_once") or by_kind.get(f"{word}_always")  # pyright: ignore[reportArgumentType]  # the kinds are a closed set of such words


def _said(error: RequestError) -> str:
    details: Any = getattr(error, "data", None)
    if isinstance(details, dict):
        mapping = cast(dict[str, Any], details)
        details = mapping.get("details") or mapping.get("message") or json.dumps(mapping)
    return f"{error} ({details})" if details else str(error)


def _appended(words: str) -> str:
    return f" Its last words:\n{words}" if words else ""
