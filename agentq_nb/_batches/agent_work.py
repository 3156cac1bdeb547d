"""``map`` over prompts: each item is sent to an agent, in a session of its own.

All share one VM; with a repository, each item has a VM and a branch of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.message import Message
from agentq_nb.agent_os import VM, agent_os
from agentq_nb.agent_os.agent import Agent
from agentq_nb.agent_os.repositories.mirror import resolve
from agentq_nb.agent_os.repositories.repository import safe_part
from agentq_nb.agent_os.sandbox.isolation import in_force
from agentq_nb.agent_os.sessions.typed_reply import ReplyType
from agentq_nb.errors import PromptFailed, ValidationFailed

_KEYS: Mapping[str, tuple[str, ...]] = {
    "claude": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_BASE_URL"),
    "codex": ("OPENAI_API_KEY", "CODEX_API_KEY", "OPENAI_BASE_URL"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
    "pi": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
    "opencode": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
}
"""The variables that each preset may be given to reach its language model."""
BRANCH_FIELDS = ("reply", "branch", "files", "insertions", "deletions")
"""The fields of a row's reply where the VM works in a repository."""
_LONGEST_TITLE = 72
_LONGEST_SLUG = 40
_NEED_A_KEY = ("claude", "codex", "gemini")


class AgentWork:
    """Sends prompts to one agent.

    :param vm: the class of the VM; None makes one with just this agent.
    :param env: variables of the sessions; None takes the agent's keys from this process's environment.
    :param reply: the type of the answers; None takes them as text.

    Raises ``actor.validation_error`` if the agent could not work: it is not installed, has no key, or asks for permission
    when there is no one to answer.
    """

    def __init__(self, agent: Agent, vm: type[VM] | None, env: Mapping[str, str] | None, reply: Any = None) -> None:
        self.agent = agent
        self.reply = reply
        self.vm = vm if vm is not None else agent_os(agents=[agent])
        metered = {name for llm in self.vm.language_models() for name in llm.style.variables}
        self.env = dict(env) if env is not None else _keys_of(agent.name, metered)
        self._has_model = bool(metered.intersection(_KEYS.get(agent.name, ())))
        """Whether the VM has a language model for the agent, so that it needs no key."""
        self.vm_name = ""
        """The name that the class of the VM is registered under."""
        self._in_branches = False
        self._check()
        self._reply_type = None if reply is None else ReplyType(reply)

    def _check(self) -> None:
        name = self.agent.name
        if name not in self.vm._agents:  # pyright: ignore[reportPrivateUsage]  # a VM has no other name for them
            raise ValidationFailed(
                f"The VM given to map has no agent '{name}': vm=agent_os(agents=[agents.{name}], ...)."
            )
        if self.vm._permits.asks_user:  # pyright: ignore[reportPrivateUsage]  # nor for this
            raise ValidationFailed(
                "The VM given to map asks for permission, and there is no one to answer while many prompts run: every row would wait. "
                'Give agent_os permissions="allow" or "deny", or a function that decides.'
            )
        check = self.agent.check()
        if not check:
            raise ValidationFailed(f"Agent '{name}' cannot work here, so nothing was sent. {' '.join(check.missing)}")
        keys = _KEYS.get(name, ())
        if name in _NEED_A_KEY and not self._has_model and not any(self.env.get(key) for key in keys):
            raise ValidationFailed(
                f"Agent '{name}' has no key, so nothing was sent: set {keys[0]} in the environment, or give it with "
                f'env={{"{keys[0]}": ...}}, or let the VM keep it: vm=agent_os(agents=[agents.{name}], llm=LLM(...)).'
            )

    async def begin(self, batch: str, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """Prepare the batch of this name; return what is to be stored with it, given what was ``earlier``.

        With a repository, its ref is looked up for the first items, and all others begin from the same commit.
        """
        repository = self.vm.repository()
        if repository is None:
            return {}
        mode = self.vm._isolation_mode  # pyright: ignore[reportPrivateUsage]  # nor for this
        if mode != "off" and (await in_force(mode)).kind == "none":
            raise ValidationFailed(
                "This machine has no sandbox, so the branches could not be brought back. If agents may do whatever you may, "
                'write agent_os(isolation="off").'
            )
        commit = str(earlier.get("commit") or (await resolve(repository)).commit)
        branch = repository.branch.replace("{name}", safe_part([batch]))
        self.vm = self.vm.with_repository(replace(repository, branch=branch), commit)
        self._in_branches = True
        return {"commit": commit}

    async def prompt(self, actor: Actor, text: str, message: Message[Any, Any]) -> Any:
        """Send one prompt in a new session; return the answer, as ``reply`` if there is such a type.

        With a repository, it is in a dict beside the branch with the work.
        """
        vm = self._vm_of(actor, text, message)
        session = await vm.create_session(self.agent.name, env=self.env)
        try:
            answer = await vm.send_prompt(session.session_id, text, reply=self.reply)
        finally:
            await vm.close_session(session.session_id)
        if self.reply is not None and answer.stop_reason == "cancelled":
            raise PromptFailed("The prompt was cancelled before its answer was complete.")
        reply = answer.text if self.reply is None else answer.reply
        return await self._brought_back(vm, text, reply) if self._in_branches else reply

    async def clean_up(self, actor: Actor, text: str, message: Message[Any, Any]) -> None:
        """Remove the VM of a row that is settled, with its files if all of its work was brought back."""
        if self._in_branches:
            await self._vm_of(actor, text, message).destroy(files=True)

    def _vm_of(self, actor: Actor, text: str, message: Message[Any, Any]) -> Any:
        key = (_key_of(text, message.id),) if self._in_branches else ()
        return getattr(actor.actors, self.vm_name).get_or_create(key)

    async def _brought_back(self, vm: Any, text: str, reply: Any) -> dict[str, Any]:
        title = next((line.strip() for line in text.splitlines() if line.strip()), "Work of an agent")
        await vm.commit(title if len(title) <= _LONGEST_TITLE else f"{title[:_LONGEST_TITLE]}…\n\n{text}")
        brought = await vm.bring_back()
        return {
            "reply": reply if self._reply_type is None else self._reply_type.plain(reply),
            "branch": brought.branch,
            "files": len(brought.files),
            "insertions": brought.insertions,
            "deletions": brought.deletions,
        }


def _key_of(text: str, message_id: str) -> str:
    """Return the key of an item's VM, which becomes the end of its branch's name: readable, and its own."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower())[:_LONGEST_SLUG].strip("-") or "task"
    return f"{words}-{hashlib.sha256(message_id.encode()).hexdigest()[:6]}"


def _keys_of(name: str, metered: Collection[str]) -> dict[str, str]:
    """Return this process's keys for the agent, but those for models that the VM has itself."""
    keys = (key for key in _KEYS.get(name, ()) if key not in metered)
    return {key: value for key in keys if (value := os.environ.get(key))}


def is_agent(function: Any) -> bool:
    """Whether ``map`` was given an agent."""
    return not isinstance(function, type) and isinstance(function, Agent)
