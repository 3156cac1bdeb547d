"""A VM's actions to send prompts to its agents."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from agentq_nb._actor.actor import action
from agentq_nb._actor.actor_context import Handling
from agentq_nb._core.origin import Origin
from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.actions.sessions import SessionActions
from agentq_nb.agent_os.agent import Agent, AgentSession
from agentq_nb.agent_os.meter.access import MeteredTurn, ModelAccess
from agentq_nb.agent_os.repositories.vm_git import Snapshot
from agentq_nb.agent_os.sessions.scope_pauses import Scope, admitted, scope_of
from agentq_nb.agent_os.sessions.session import Session
from agentq_nb.agent_os.sessions.turn import take_turn
from agentq_nb.agent_os.sessions.typed_reply import ReplyType, answer_typed
from agentq_nb.agent_os.validation import checked_prompt
from agentq_nb.agent_os.values import PromptResult
from agentq_nb.errors import AgentqError, BudgetSpent


@dataclass
class Prompt:
    """A prompt on its way to an agent, which may take several turns to answer it.

    :ivar waiting: can be cancelled until the agent is asked.
    :ivar start: how the VM's repository looked before the first turn.
    """

    session_id: str
    text: str
    origin: Origin
    handling: Handling | None
    reply: ReplyType | None
    waiting: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    start: Snapshot | None = None
    asked: bool = False


class PromptActions(SessionActions, action_timeout=None):
    """Actions on prompts."""

    @action
    async def send_prompt(self, session_id: str, text: str, reply: Any = None) -> PromptResult:
        """Send ``text`` to the session's agent and wait for its answer. A session runs one prompt at a time.

            answer = await vm.send_prompt(session.session_id, "Review cart.py", reply=Review)
            answer.reply.summary

        With ``reply``, a type that pydantic can validate, the agent is told its JSON Schema beside the prompt, and the
        result has the last JSON value of its answer that fits. If none does, it is asked again with the reason, twice at
        most; then raises ``ReplyInvalid``, which has its last answer.

        The prompt is on disk before the agent gets it. Raises ``PromptFailed`` when the agent fails, and
        ``RateLimited`` when the limit of its provider is reached: until that ends, prompts of the same account and
        model are refused in all VMs, without asking the provider. With ``agent_os(limits=[...])`` the prompt waits until
        the limits let it start.
        """
        session = await self._sessions.ready(session_id)
        wanted = None if reply is None else ReplyType(reply)
        prompt = Prompt(
            session.info.session_id, checked_prompt(text), self.runtime.origin, self.runtime.handling, wanted
        )
        return await self.keep_awake(self._prompt(session, prompt))

    @action(while_ending=True)
    async def cancel_prompt(self, session_id: str) -> bool:
        """Cancel the session's running prompt and those that wait behind it. False if there was none.

        The result of each has the stop reason ``"cancelled"``. The agent never gets the waiting ones, and they are not
        in the transcript.
        """
        return (await self._sessions.opened(session_id)).cancel_prompts()

    # --- internals ---

    async def _prompt(self, session: Session, prompt: Prompt) -> PromptResult:
        with prompt.waiting:
            session.waiting.add(prompt.waiting)
            ask = functools.partial(self._ask, prompt)
            try:
                # Nothing is awaited before the lock and the limits, which keep prompts in the order in which they came.
                async with session.turn:
                    if prompt.reply is None:
                        result = await ask(prompt.text)
                    else:
                        agent = self._agent(session.info.agent)
                        result = await answer_typed(ask, prompt.text, prompt.reply, session, agent)
                    return replace(result, files=await self._changed_since(prompt.start))
            finally:
                session.waiting.discard(prompt.waiting)
        return PromptResult("", "cancelled", None, ())

    async def _ask(self, prompt: Prompt, text: str) -> PromptResult:
        """Run one turn while the session is this prompt's."""
        session = await self._sessions.opened(prompt.session_id)
        session.waiting.add(prompt.waiting)
        async with admitted(self.runtime, self._scope(session)) as turn:
            await to_its_end((await self._files()).ensure)
            await self._models(session, prompt.handling)
            if not prompt.asked:
                prompt.asked, prompt.start = True, await self._snapshot()
            # It may have been closed meanwhile. No await from here to the turn: a cancel always finds the prompt.
            session = await self._sessions.opened(prompt.session_id)
            agent, view = self._agent(session.info.agent), self._view(session, prompt.origin)
            if prompt.reply is not None:
                view = replace(view, reply_schema=prompt.reply.json_schema, instructions=prompt.reply.instructions)
            session.waiting.discard(prompt.waiting)
            result = await self._metered_turn(session, agent, view, text, turn.begin, prompt.handling)
            turn.answered = result.stop_reason != "cancelled"
            return result

    async def _metered_turn(
        self,
        session: Session,
        agent: Agent,
        view: AgentSession,
        text: str,
        begin: Callable[[], Awaitable[None]],
        handling: Handling | None,
    ) -> PromptResult:
        """Let the agent answer, and count what that costs. Raises what ``take_turn`` does, and BudgetSpent."""
        if session.models is None:
            return await take_turn(session, agent, view, text, self._sessions.redactor, begin)
        metered = self._begin_metering(session, session.models, handling)
        failure: AgentqError | None = None
        result: PromptResult | None = None
        try:
            result = await take_turn(session, agent, view, text, self._sessions.redactor, begin)
        except AgentqError as error:
            failure = error
        finally:
            metered.over = True
            with anyio.CancelScope(shield=True):
                await session.models.settled()
        if metered.budget_spent is not None:
            raise BudgetSpent(metered.budget_spent, until=metered.resumes_at) from None
        if failure is not None:
            raise failure
        assert result is not None
        return replace(result, usage=dict(metered.used)) if result.usage is None and metered.used else result

    def _begin_metering(self, session: Session, models: ModelAccess, handling: Handling | None) -> MeteredTurn:
        """Count the requests of the session's agent for this prompt from now on."""
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            if models.turn is turn and not turn.over and session.cancel is not None:
                session.cancel()

        turn = MeteredTurn(handling, functools.partial(loop.call_soon_threadsafe, cancel))
        models.turn = turn
        return turn

    def _scope(self, session: Session) -> Scope:
        model = session.chosen.get("model", session.info.model)
        # Sessions have tokens of their own, and share the account of the key.
        keys = {f"KEY of {llm.name}": llm.key for llm in self._llms}
        return scope_of(session.info.agent, {**session.environment, **keys}, model, self.actor_id)
