"""``map`` over prompts: each item is sent to an agent, in a session of its own in one VM."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb.agent_os import VM, agent_os
from agentq_nb.agent_os.agent import Agent
from agentq_nb.errors import ValidationFailed

_KEYS: Mapping[str, tuple[str, ...]] = {
    "claude": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_BASE_URL"),
    "codex": ("OPENAI_API_KEY", "CODEX_API_KEY", "OPENAI_BASE_URL"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
    "pi": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
    "opencode": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
}
"""The variables that each preset may be given to reach its language model."""
_NEED_A_KEY = ("claude", "codex", "gemini")


class AgentWork:
    """Sends prompts to one agent.

    :param vm: the class of the VM; None makes one with just this agent.
    :param env: variables of the sessions; None takes the agent's keys from this process's environment.

    Raises ``actor.validation_error`` if the agent could not work: it is not installed, has no key, or asks for permission
    when nobody can answer.
    """

    def __init__(self, agent: Agent, vm: type[VM] | None, env: Mapping[str, str] | None) -> None:
        self.agent = agent
        self.vm = vm if vm is not None else agent_os(agents=[agent])
        self.env = dict(env) if env is not None else _keys_of(agent.name)
        self.vm_name = ""
        """The name that the class of the VM is registered under."""
        self._check()

    def _check(self) -> None:
        name = self.agent.name
        if name not in self.vm._agents:  # pyright: ignore[reportPrivateUsage]  # a VM has no other name for them
            raise ValidationFailed(
                f"The VM given to map has no agent '{name}': vm=agent_os(agents=[agents.{name}], ...)."
            )
        if self.vm._permits.asks_user:  # pyright: ignore[reportPrivateUsage]  # nor for this
            raise ValidationFailed(
                "The VM given to map asks for permission, and nobody answers while many prompts run: every row would wait. "
                'Give agent_os permissions="allow" or "deny", or a function that decides.'
            )
        check = self.agent.check()
        if not check:
            raise ValidationFailed(f"Agent '{name}' cannot work here, so nothing was sent. {' '.join(check.missing)}")
        keys = _KEYS.get(name, ())
        if name in _NEED_A_KEY and not any(self.env.get(key) for key in keys):
            raise ValidationFailed(
                f"Agent '{name}' has no key, so nothing was sent: set {keys[0]} in the environment, or give it with "
                f'env={{"{keys[0]}": ...}}.'
            )

    async def prompt(self, actor: Actor, text: str) -> str:
        """Send one prompt in a new session; return the answer."""
        vm = getattr(actor.actors, self.vm_name).get_or_create(())
        session = await vm.create_session(self.agent.name, env=self.env)
        try:
            answer = await vm.send_prompt(session.session_id, text)
        finally:
            await vm.close_session(session.session_id)
        return answer.text


def _keys_of(name: str) -> dict[str, str]:
    return {key: value for key in _KEYS.get(name, ()) if (value := os.environ.get(key))}


def is_agent(function: Any) -> bool:
    """Whether ``map`` was given an agent."""
    return not isinstance(function, type) and isinstance(function, Agent)
