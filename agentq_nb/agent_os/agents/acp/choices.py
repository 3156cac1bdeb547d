"""Choose the mode and the model of an open session, and report them to the VM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
from acp import RequestError

from agentq_nb.agent_os.agent import AgentSession
from agentq_nb.agent_os.agents.acp.options import Choices
from agentq_nb.agent_os.agents.acp.program import AcpProgram
from agentq_nb.agent_os.agents.acp.wire import Wire, what_it_said
from agentq_nb.agent_os.values import ChoiceKind
from agentq_nb.errors import AgentError

_CHOOSING = 30.0  # seconds for a change


class Choosing:
    """The available and the current choices of a session."""

    def __init__(self, wire: Wire, session: AgentSession, agent: AcpProgram) -> None:
        self._wire = wire
        self._session = session
        self._agent = agent
        self._session_id = ""
        self._choices = Choices({})

    async def begin(self, session_id: str, opened: Mapping[str, Any]) -> None:
        """Apply earlier choices to this process, as far as they are still available.

        ``opened`` is the agent's answer to the request that opened the session. Raises ``AgentError`` if a choice fails
        before anything was said in the session.
        """
        self._session_id, self._choices = session_id, Choices(opened)
        chosen = dict(self._session.chosen)
        if self._agent.mode:
            chosen.setdefault("mode", self._agent.mode)
        for kind, value in chosen.items():
            try:
                await self._set(kind, value)
            except AgentError as error:
                if self._session.agent_session_id is None:
                    raise
                await self._session.note(f"It keeps its own {kind}. {error.message}")
        await self._session.learn(**self._offers())

    async def choose(self, kind: ChoiceKind, value: str) -> None:
        """Make a choice. Raises ``AgentError``."""
        await self._set(kind, value)
        await self._session.learn({kind: value}, **self._offers())

    async def update(self, update: Mapping[str, Any]) -> None:
        """Handle a change that the agent reports."""
        before = self._offers()
        self._choices.update(update)
        after = self._offers()
        kinds: tuple[ChoiceKind, ...] = ("mode", "model")
        changed: dict[ChoiceKind, str] = {kind: after[kind] for kind in kinds if after[kind] != before[kind]}
        if changed:
            await self._session.learn(changed, **after)

    async def _set(self, kind: ChoiceKind, value: str) -> None:
        name, current, available = self._agent.name, self._choices[kind].current, self._choices[kind].available
        if value not in available:
            has = f"It has: {', '.join(available)}." if available else f"It offers no choice of {kind}."
            raise AgentError(
                f"Agent '{name}' has no {kind} {value!r:.100}. {has}",
                code=f"{kind}_unknown",
                metadata={"available": list(available)},
            )
        if value == current:
            return
        # Before the request, so that the agent's own report of the change is not news.
        self._choices.chosen(kind, value)
        method, parameters = self._choices.request(kind, value)
        try:
            with anyio.fail_after(_CHOOSING):
                answer = await self._wire.request(method, sessionId=self._session_id, **parameters)
        except (RequestError, ConnectionError, TimeoutError) as error:
            self._choices.chosen(kind, current)
            why = what_it_said(error) if isinstance(error, RequestError) else str(error) or "it did not answer"
            raise AgentError(f"Agent '{name}' did not change its {kind} to {value!r}: {why}.") from None
        self._choices.update(answer)

    def _offers(self) -> dict[str, Any]:
        """Return the choices as fields of ``SessionInfo``."""
        mode, model = self._choices["mode"], self._choices["model"]
        return {"mode": mode.current, "modes": mode.available, "model": model.current, "models": model.available}
