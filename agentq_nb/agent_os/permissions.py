"""What the user lets agents do that ask first."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from typing import Any, Literal, TypeAlias, get_args

from agentq_nb.agent_os.values import FAILURES, AnsweredBy, Permission, PermissionRequest

Policy: TypeAlias = Literal["allow", "deny", "ask"]
Permissions: TypeAlias = Policy | Callable[[PermissionRequest], Any]
"""One word for whatever an agent asks, or a function, plain or ``async``, that gives one for each request."""

PERMISSION_TIMEOUT = 300.0
"""Seconds that a request waits for the user before it is refused."""


@dataclass(frozen=True)
class Decision:
    """How a request ended."""

    answer: Permission
    by: AnsweredBy
    reason: str = ""


class Permits:
    """Decides as the user said. Raises ``TypeError`` for what says nothing.

    ``timeout``: seconds that a request put to the user waits; ``None``: for as long as its prompt runs.
    """

    def __init__(self, permissions: Permissions, timeout: float | None = PERMISSION_TIMEOUT) -> None:
        if not callable(permissions) and permissions not in get_args(Policy):
            raise TypeError(
                f'permissions is "allow", "deny", "ask" or a function that returns one of them, not {permissions!r:.200}.'
            )
        if timeout is not None and not timeout > 0:
            raise TypeError("permission_timeout is in seconds, more than 0, or None for no limit.")
        self._permissions = permissions
        self.timeout = timeout

    async def decide(self, request: PermissionRequest, log: Logger | LoggerAdapter[Any]) -> Decision | None:
        """None: ask the user. A function that fails, or returns anything else than a word for it, is a no."""
        if not callable(self._permissions):
            return _decision(self._permissions, "setting")
        try:
            policy = self._permissions(request)
            if inspect.isawaitable(policy):
                policy = await policy
            if policy not in get_args(Policy):
                raise TypeError(f'permissions must return "allow", "deny" or "ask", not {policy!r:.200}')
        except FAILURES:
            log.exception("The function given as permissions failed: the agent was told no.")
            return Decision("deny", "function", "the function given as permissions failed")
        return _decision(policy, "function")


def _decision(policy: str, by: AnsweredBy) -> Decision | None:
    return None if policy == "ask" else Decision("allow" if policy == "allow" else "deny", by)
