"""One session's access to the language models: its token, the work that its requests count for, and what they met."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentq_nb._actor.actor_context import Handling
from agentq_nb._policies.provider_limits import ProviderLimit
from agentq_nb.agent_os.meter.llm import STYLES, Provider

TOKEN_MARK = f"agentq-{secrets.token_urlsafe(24)}"
"""The prefix of every token of this process: redacting it makes other VMs' tokens in a text useless too."""

_SETTLING = 1.0  # seconds
_LOOKING = 0.005  # seconds


@dataclass(eq=False)
class MeteredTurn:
    """One prompt, as far as its requests are concerned. Written in the network's thread.

    :ivar handling: the message in whose handling the prompt was sent.
    :ivar give_up: cancels the prompt. May be called from any thread.
    :ivar used: what its requests took so far: tokens, and US dollars as ``cost`` where prices are known.
    :ivar limit: the provider's limit that its last request met.
    :ivar budget_spent: why its requests are refused: a budget is spent.
    """

    handling: Handling | None
    give_up: Callable[[], object]
    used: dict[str, float] = field(default_factory=dict[str, float])
    limit: ProviderLimit | None = None
    budget_spent: str | None = None
    resumes_at: float | None = None
    """When the budget's next period begins, in seconds since 1970, if it does by itself."""
    over: bool = False

    def add(self, facts: Mapping[str, Any]) -> None:
        """Count one of its requests."""
        for name in ("input_tokens", "output_tokens", "cost"):
            if (value := facts.get(name)) is not None:
                self.used[name] = self.used.get(name, 0) + value


def _nothing() -> None:
    pass


class ModelAccess:
    """Access to the language models of one VM with a token, until it is revoked.

    :ivar turn: the session's prompt that runs, or ran last: requests between prompts count for the last one.
    :ivar under_way: how many of its requests are not counted yet. Changed in the network's thread.
    """

    def __init__(self, session_id: str, agent: str, origin: str, providers: tuple[Provider, ...]) -> None:
        self.session_id = session_id
        self.agent = agent
        self.token = f"{TOKEN_MARK}-{secrets.token_urlsafe(32)}"
        self.turn: MeteredTurn | None = None
        self.under_way = 0
        self.revoke: Callable[[], object] = _nothing
        """Invalidates the token."""
        self.urls: Mapping[Provider, str] = {kind: f"{origin}{STYLES[kind].prefix}" for kind in providers}

    def __repr__(self) -> str:
        return f"ModelAccess({self.session_id})"

    def fits(self, token: bytes) -> bool:
        """Whether this is the token, compared in constant time."""
        return hmac.compare_digest(token, self.token.encode())

    async def settled(self) -> None:
        """Wait a moment until its requests are counted: an agent may end its turn before a response has ended."""
        until = time.monotonic() + _SETTLING
        while self.under_way and time.monotonic() < until:  # noqa: ASYNC110  # another thread counts
            await asyncio.sleep(_LOOKING)

    def variables(self) -> dict[str, str]:
        """Return the variables in which programs look for base URLs and keys."""
        found: dict[str, str] = {}
        for provider, url in self.urls.items():
            found[STYLES[provider].key] = self.token
            found |= dict.fromkeys(STYLES[provider].base_url_variables, url)
        return found
