"""Pauses inside VMs: while a provider's limit lasts, prompts of the same account and model are refused without asking.

They are in memory only: after a restart, the first prompt asks the provider again. A credential is never kept, only its
hash, with a key that this process alone knows.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agentq_nb._actor.actor_context import CallStart, Runtime
from agentq_nb._core.clock import Clock
from agentq_nb._policies.pause import FIRST_GUESS, ProviderPause, after_limit
from agentq_nb._policies.rate_limit import provider_of
from agentq_nb.errors import BudgetSpent, RateLimited

_HASH_KEY = secrets.token_bytes(32)
_MARKS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "BASE_URL")
"""Variables whose names have one of these decide which account is used, and whose server."""
PROMPTS = "$prompts"
"""The name of prompts among the calls that start under limits."""


class Scope(NamedTuple):
    """What shares a provider's limit. ``credential`` is a keyed hash."""

    provider: str
    credential: str
    model: str | None


def scope_of(agent: str, environment: Mapping[str, str], model: str | None, vm: str) -> Scope:
    """Return the scope of an agent's prompts. Without a credential in its environment, it is this VM's sign-in."""
    found = sorted(
        (name, value) for name, value in environment.items() if value and any(mark in name.upper() for mark in _MARKS)
    )
    parts = [part for pair in found for part in pair] or ["vm", vm]
    credential = hmac.digest(_HASH_KEY, "\0".join(parts).encode("utf-8", "replace"), "sha256").hex()
    return Scope(provider_of(agent), credential, model)


@dataclass(slots=True)
class _Paused:
    pause: ProviderPause
    began: float
    """On the monotonic clock."""
    probe: object | None = None
    """The prompt that is tried, once the guessed end of a limit has come."""


class ScopePauses:
    """The scopes that are paused in the VMs of one host."""

    def __init__(self) -> None:
        self._paused: dict[Scope, _Paused] = {}

    def check(self, scope: Scope, prompt: object, now: float, resumed_at: float) -> None:
        """Raise RateLimited if the provider's limit is known to last; else let this prompt try.

        ``now`` is in seconds since 1970. ``resumed_at``: when a user last ended a pause by hand, on the monotonic clock.
        """
        paused = self._paused.get(scope)
        if paused is None or paused.pause.is_over(now):
            return
        if paused.began < resumed_at:
            del self._paused[scope]
        elif paused.pause.probes(now) and paused.probe is None:
            paused.probe = prompt
        else:
            raise RateLimited(
                f"The agent was not asked, since its provider's limit is reached for the same account and model: "
                f"{paused.pause.reason} Resuming a queue by hand makes it ask again.",
                until=max(paused.pause.until, now + FIRST_GUESS if paused.probe else now),
            )

    def met(self, scope: Scope, prompt: object, error: RateLimited, now: float, monotonic: float) -> None:
        """Pause the scope after a prompt met its provider's limit. One that names a ``limit`` pauses that instead."""
        if error.limit is not None:
            return
        before = self._paused.get(scope)
        pause = after_limit(
            None if before is None else before.pause,
            now=now,
            until=error.ends_at(now),
            reason=error.message,
            late=before is not None and before.probe is not prompt and not before.pause.is_over(now),
        )
        if pause is not None and (before is None or pause is not before.pause):
            self._paused[scope] = _Paused(pause, monotonic)

    def ended(self, scope: Scope, prompt: object, now: float, *, answered: bool) -> None:
        """Note that a prompt has ended. If it was tried, or began after the pause, an answer means that it is over."""
        paused = self._paused.get(scope)
        if paused is None:
            return
        if answered and (paused.probe is prompt or paused.pause.is_over(now)):
            del self._paused[scope]
        elif paused.probe is prompt:
            paused.probe = None


class Turn:
    """A prompt that was let through to its agent. ``answered`` is set once the agent has answered."""

    start: CallStart
    since = math.inf
    """When the agent was asked, on the monotonic clock."""
    answered = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def begin(self) -> None:
        """Count the start, which is durable on return. To be awaited just before the agent is asked."""
        await self.start.begin()
        self.since = self._clock.monotonic()


@asynccontextmanager
async def admitted(runtime: Runtime, scope: Scope) -> AsyncGenerator[Turn]:
    """Wait until limits let a prompt start, and count it as at work inside.

    Raises RateLimited, and asks nobody, while its provider's limit lasts, or a limit that its VM names is paused. When it
    meets the provider's limit inside, the scope is paused, and so are the limits that are bound to the scope.
    """
    pauses, limits, clock, turn = (
        scope_pauses_of(runtime.workspaces),
        runtime.limits,
        runtime.clock,
        Turn(runtime.clock),
    )
    bound = limits.bound_to(scope.provider, scope.model)
    pauses.check(scope, turn, clock.time(), runtime.resumed_at)
    try:
        turn.start = await runtime.start_call(PROMPTS, bound)
        try:
            yield turn
        except BudgetSpent:
            raise  # the provider has nothing to do with it
        except RateLimited as error:
            pauses.met(scope, turn, error, clock.time(), clock.monotonic())
            limits.met(runtime.actor_id, bound if error.limit is None else [error.limit], error, turn.since)
            if bound:
                error.metadata.setdefault("limit", bound[0])
            raise
        finally:
            turn.start.leave()
        if turn.answered:
            limits.answered(bound, turn.since)
    finally:
        pauses.ended(scope, turn, clock.time(), answered=turn.answered)


_pauses: dict[Path, ScopePauses] = {}


def scope_pauses_of(workspaces: Path) -> ScopePauses:
    """Return the paused scopes of the VMs of one host."""
    return _pauses.setdefault(workspaces, ScopePauses())
