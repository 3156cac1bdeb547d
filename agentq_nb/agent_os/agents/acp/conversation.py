"""A conversation with a running agent: open the session and run its turns. Imported by the first one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, get_args

import anyio
from acp import PROTOCOL_VERSION, RequestError
from acp.schema import (
    AllowedOutcome,
    DeniedOutcome,
    PermissionOption,
    RequestPermissionResponse,
    StopReason,
    ToolCallUpdate,
    Usage,
)
from pydantic import ValidationError

from agentq_nb._core.safe_text import safe
from agentq_nb._core.threads import to_its_end
from agentq_nb._policies.provider_limits import ProviderLimit
from agentq_nb.agent_os.agent import AgentEvent, AgentSession, Emit
from agentq_nb.agent_os.agents.acp.choices import Choosing
from agentq_nb.agent_os.agents.acp.frames import Line, mapping, sentence_of
from agentq_nb.agent_os.agents.acp.program import AcpProgram
from agentq_nb.agent_os.agents.acp.turns import Turn, Turns
from agentq_nb.agent_os.agents.acp.wire import Answers, Wire, option_for, what_it_said
from agentq_nb.agent_os.provider_limits import prompt_error
from agentq_nb.agent_os.sandbox.open_process import OpenProcess
from agentq_nb.agent_os.tools import NAME, ToolAccess
from agentq_nb.agent_os.validation import in_variables
from agentq_nb.agent_os.values import ChoiceKind, McpServer, PermissionRequest
from agentq_nb.errors import AgentError, AgentqError, PromptFailed

_STARTING = 60.0  # seconds until a started agent must be ready
_REPLAYING = 0.25  # seconds without an update, after which a loaded session counts as replayed
_SILENCE = 30.0  # seconds without an update after which an agent may be waiting for its provider
_CANCELLING = 2.0  # seconds for a cancelled agent to end its turn; then its process is ended

_LOOKED_AT = 64 * 1024  # characters read of an invalid line
_SHOWN = 200  # characters shown of it
_STOP_REASONS: tuple[str, ...] = get_args(StopReason)

_INITIALIZE: Mapping[str, Any] = {
    "protocolVersion": PROTOCOL_VERSION,
    # The agent has files and a shell of its own, so none are offered.
    "clientCapabilities": {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False},
    "clientInfo": {"name": "agentq-nb", "version": "0.1.0"},
}


async def begin(
    process: OpenProcess,
    cwd: str,
    session: AgentSession,
    agent: AcpProgram,
    load: str | None,
    access: ToolAccess | None,
) -> Conversation:
    """Initialize the agent and open a session with it, with ``cwd`` as it sees it.

    ``load`` is the agent's own id of an earlier session, to be loaded where it can do that; ``access`` is access to the
    notebook's tools. Raises ``AgentError``; then ``process`` and ``access`` are closed.
    """
    conversation = Conversation(process, session, agent, access)
    try:
        with anyio.fail_after(_STARTING):
            await conversation.open(cwd, load)
    except TimeoutError:
        await conversation.aclose()
        silent = f"Agent '{agent.name}' did not get ready within {_STARTING:g} s."
        raise AgentError(silent + conversation.last_words(), code="not_ready") from None
    except BaseException:
        await conversation.aclose()
        raise
    return conversation


class Conversation:
    """A conversation with a running agent. Its events reach the transcript in the order in which they were sent."""

    def __init__(
        self, process: OpenProcess, session: AgentSession, agent: AcpProgram, access: ToolAccess | None
    ) -> None:
        self.briefing = ""
        """What the agent is told besides its next prompt."""
        self.loaded = False
        """Whether it loaded an earlier session."""
        self._session = session
        self._agent = agent
        self._tools = access
        self._wire = Wire(process, Answers(self.permission), self._tell, self._note_noise)
        self._session_id = ""
        """The agent's id of the session; empty until the session is open and its earlier events have been replayed."""
        self._known_as = session.agent_session_id
        self._choosing = Choosing(self._wire, session, agent)
        self._turns = Turns(self._wire, session)
        self._greeting: str | None = None
        """A greeting to omit, which is no answer."""
        self._asking: set[anyio.CancelScope] = set()
        self._noise = ""
        """The beginning of the first line outside of its turns that is not a frame."""

    @property
    def alive(self) -> bool:
        """Whether it can take a prompt."""
        return self._wire.alive

    def last_words(self) -> str:
        """Return the end of its stderr, as text to append. May contain secrets."""
        noise = (
            f" On its stdout it wrote something that is no frame of the protocol: {self._noise}." if self._noise else ""
        )
        return noise + self._wire.last_words()

    async def open(self, cwd: str, load: str | None) -> None:
        """Make the agent ready. Raises ``AgentError``."""
        initialized = await self._opening("initialize", **_INITIALIZE)
        version = initialized.get("protocolVersion")
        if version != PROTOCOL_VERSION:
            unlike = f"Agent '{self._agent.name}' speaks version {version!r} of ACP, not {PROTOCOL_VERSION}."
            raise AgentError(f"{unlike} Install one that does.", code="not_ready")
        able = mapping(initialized.get("agentCapabilities"))
        takes = mapping(able.get("mcpCapabilities"))
        self._check_servers(takes)
        servers = [*self._session.mcp_servers, *await self._host_tools(takes)]
        if self._agent.servers_in_argv:
            servers, _ = in_variables(servers)
        opened: dict[str, Any] = {"cwd": cwd, "mcpServers": servers, **self._agent.opening}
        if load is not None and able.get("loadSession"):
            reported = await self._opening("session/load", **opened, sessionId=load)
            # The agent replays the conversation, some agents after their answer too; nothing is recorded until then.
            await self._wire.quiet(_REPLAYING, _STARTING)
            self._session_id, self.loaded = load, True
        else:
            reported = await self._opening("session/new", **opened)
            self._session_id = reported.get("sessionId") or ""
            if not isinstance(reported.get("sessionId"), str):
                raise AgentError(f"Agent '{self._agent.name}' gave its session no id.", code="not_ready")
        if self._agent.greeting is not None:
            self._greeting = self._agent.greeting(reported)
        await self._choosing.begin(self._session_id, reported)

    async def choose(self, kind: ChoiceKind, value: str) -> None:
        """Change the session's mode or model, even during a prompt. Raises ``AgentError``."""
        await self._choosing.choose(kind, value)

    async def prompt(self, text: str, emit: Emit, instructions: str = "") -> None:
        """Run one turn. Raises ``PromptFailed``; if cancelled, the agent has ended its turn on return.

        ``instructions`` are what the agent is told besides this prompt.
        """
        if self._known_as != self._session_id:
            await self._session.learn(agent_session_id=self._session_id)
            self._known_as = self._session_id
        turn = self._turns.begin(emit)
        # Separate from the prompt, whose text stays as it is.
        blocks = [{"type": "text", "text": part} for part in (text, self.briefing, instructions) if part]
        prompting = self._wire.request("session/prompt", sessionId=self._session_id, prompt=blocks)
        request = asyncio.create_task(prompting)
        try:
            if (limit := await self._answered(turn, request)) is not None:
                await self._cancel(turn, request)
                said = turn.limits.text or "it waited for its provider inside the prompt, which was cancelled"
                raise self._failed(limit, said)
            await self._turns.end(turn)
            response = request.result()
        except asyncio.CancelledError:
            await self._cancel(turn, request)
            raise
        except ConnectionError:
            ended = await self._wire.how_it_ended(self._agent.name, "in the middle of a prompt")
            words = self._wire.last_words()
            raise self._failed(turn.limits.of_failure(words), words, ended) from None
        except RequestError as error:
            refused = self._agent.refused("could not answer", what_it_said(error))
            raise self._failed(turn.limits.of_error(error), what_it_said(error), refused) from None
        finally:
            turn.over = True
        self.briefing = ""
        await self._finish(turn, response)

    async def aclose(self) -> None:
        """End the agent with all it started."""
        with anyio.CancelScope(shield=True):
            if self._tools is not None:
                await self._tools.aclose()
            await self._wire.aclose()

    def abandon(self) -> None:
        """Have the agent end without its event loop, which may have ended."""
        self._wire.abandon()

    async def permission(self, options: list[PermissionOption], tool_call: ToolCallUpdate) -> RequestPermissionResponse:
        """Answer the agent's request for permission."""
        turn = self._turns.running
        reported: Mapping[str, Any] = {} if turn is None else turn.updates.tool_call(tool_call.tool_call_id)
        # Agents need not repeat earlier fields of the call.
        given = {**reported, **tool_call.model_dump(mode="json", by_alias=True, exclude_none=True)}
        title = given.get("title") or "a tool"
        asked = PermissionRequest(self._session.session_id, self._agent.name, title, given.get("kind"), given)
        option = None
        if turn is not None and not turn.cancelled:
            with anyio.CancelScope() as scope:
                self._asking.add(scope)
                option = option_for(options, await self._session.permit(asked))
            self._asking.discard(scope)
        if option is None or turn is None or turn.cancelled:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=option.option_id))

    async def _opening(self, method: str, **parameters: Any) -> dict[str, Any]:
        try:
            return await self._wire.request(method, **parameters)
        except ConnectionError:
            ended = await self._wire.how_it_ended(self._agent.name, "before it was ready")
            raise AgentError(ended, code="not_ready") from None
        except RequestError as error:
            raise AgentError(
                self._agent.refused("could not open a session", what_it_said(error)), code="not_ready"
            ) from None

    def _check_servers(self, takes: Mapping[str, Any]) -> None:
        """Refuse MCP servers that the agent cannot connect to, or would confuse with the notebook's tools."""
        for server in self._session.mcp_servers:
            if self._tools is not None and server["name"] == NAME:
                taken = f"The name '{NAME}' is that of the notebook's own tools: give the MCP server another."
                raise AgentError(taken, code="mcp_name_taken")
            kind = server.get("type", "stdio")
            if not self._agent.takes_servers or (kind != "stdio" and not takes.get(kind)):
                what = f"MCP servers over {kind}" if self._agent.takes_servers else "MCP servers"
                refused = f"Agent '{self._agent.name}' takes no {what}: leave '{server['name']}' out."
                raise AgentError(refused, code="mcp_not_supported")

    async def _host_tools(self, takes: Mapping[str, Any]) -> list[McpServer]:
        """Return the MCP server for the notebook's tools, if there are tools and the agent can reach it."""
        if self._tools is None or self._agent.bridge is not None:
            return []
        if not takes.get("http"):
            await self._session.note(
                f"The tools of the notebook were not offered: {self._agent.name} takes none over HTTP."
            )
            return []
        return [self._tools.as_server()]

    async def _finish(self, turn: Turn, response: dict[str, Any]) -> None:
        reason, usage = response.get("stopReason"), response.get("usage")
        if not isinstance(reason, str) or not reason:
            raise PromptFailed(
                f"Agent '{self._agent.name}' ended its turn without a reason that can be read, with the answer "
                f"{self._beginning(json.dumps(response))}. What it said before is in the transcript."
            )
        if reason == "end_turn":
            await self._look_for_error(turn)
        data: dict[str, Any] = {"stop_reason": reason}
        if reason not in _STOP_REASONS:
            unknown = "The agent ended its turn for a reason that is not one of the protocol"
            await turn.emit(AgentEvent("note", f"{unknown}: {self._beginning(reason)}"))
        if usage is not None:
            try:
                reported = Usage.model_validate(usage).model_dump(mode="json", exclude_none=True)
                data["usage"] = {"source": "agent", "covers": self._agent.usage_covers, **reported}
            except ValidationError:
                unread = f"The agent reported a usage that cannot be read: {self._beginning(json.dumps(usage))}"
                await turn.emit(AgentEvent("note", unread))
        await turn.emit(AgentEvent("result", data=data))

    async def _look_for_error(self, turn: Turn) -> None:
        """Fail a turn that the agent takes for an answer although its language model gave none."""
        if (look := self._agent.hidden_error) is not None:
            error = await to_its_end(look, self._session.workspace, self._session_id)
            if error is not None:
                refused = self._agent.refused("got an error from its language model", sentence_of(error))
                raise self._failed(turn.limits.of_failure(error), sentence_of(error), refused)
        if (limit := turn.limits.at_end()) is not None:
            raise self._failed(limit, turn.limits.text or "it ended its turn without a word")
        words = self._wire.last_words()
        if turn.updates.text_came or (look is None and turn.limits.had_tool_calls):
            return
        if (limit := turn.limits.of_failure(words)) or look or self._agent.hosts:  # others may have nothing to say
            silent = "ended its turn without a word, as it does when its language model answers with an error"
            raise self._failed(limit, words, f"Agent '{self._agent.name}' {silent}. {self._agent.hint}{words}")

    async def _answered(self, turn: Turn, request: asyncio.Task[dict[str, Any]]) -> ProviderLimit | None:
        """Return when the agent has answered; or the limit for whose end it waits inside its prompt."""
        refused = turn.limits.refused_at_once
        while not request.done():
            heard = self._wire.heard
            await asyncio.wait({request, refused}, timeout=_SILENCE, return_when=asyncio.FIRST_COMPLETED)
            if refused.done() and not request.done():
                return refused.result()
            silent = self._wire.heard == heard and not request.done() and not self._asking
            if silent and (limit := turn.limits.while_waiting()) is not None:
                return limit
        return None

    def _failed(self, limit: ProviderLimit | None, report: str, why: str = "") -> AgentqError:
        """Return the error for a failed prompt: that of ``limit``, which ``report`` names; without one, ``why``."""
        shown = self._session.redact(report)
        return prompt_error(limit, self._agent.name, self._session.session_id, shown) if limit else PromptFailed(why)

    async def _cancel(self, turn: Turn, request: asyncio.Task[dict[str, Any]]) -> None:
        """Cancel the turn; an agent that continues all the same is ended."""
        turn.cancelled = True
        for asking in self._asking:
            asking.cancel()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_CANCELLING), suppress(Exception):
                if not request.done():
                    await self._wire.notify("session/cancel", sessionId=self._session_id)
                if self._tools is not None:
                    self._tools.calls.cancel()
                await asyncio.wait({request})
            if request.done():
                with suppress(Exception):
                    request.result()
                await self._turns.end(turn)
                return
            request.cancel()
            await self.aclose()

    async def _tell(self, update: Mapping[str, Any]) -> None:
        if self._session_id:
            await self._choosing.update(update)
        if self._greeting is not None and update.get("content") == {"type": "text", "text": self._greeting}:
            self._greeting = None
            return
        await self._turns.take(update)

    async def _note_noise(self, line: Line) -> None:
        """Note invalid lines: each broken frame, and the first of the other lines."""
        turn = self._turns.running
        said = self._beginning(line.rest)
        if turn is None:
            self._noise = self._noise or said
            return
        what = "a broken frame of the protocol" if line.broken else "something that is no frame of the protocol"
        if turn.tells_noise(line.broken):
            text = f"The agent wrote {what} ({len(line.rest)} characters); it was left out. It begins: {said}"
            await turn.emit(AgentEvent("note", text))

    def _beginning(self, text: str) -> str:
        """Return the beginning of a text, safe to show. Secrets are redacted before truncation could split one."""
        return repr(safe(self._session.redact(text[:_LOOKED_AT]), _SHOWN))
