"""What the user lets agents do that ask first."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from logging import Logger, LoggerAdapter
from typing import Any, TypeAlias, get_args

from agentq_nb.agent_os.values import Permission, PermissionRequest

Permissions: TypeAlias = Permission | Callable[[PermissionRequest], Any]
"""One answer to whatever an agent asks, or a function, plain or ``async``, that gives one to each request."""


class Permits:
    """Answers requests as the user said. Raises ``TypeError`` for what can be no answer."""

    def __init__(self, permissions: Permissions) -> None:
        if not callable(permissions) and permissions not in get_args(Permission):
            raise TypeError(
                f'permissions is "allow", "deny" or a function that returns one of them, not {permissions!r:.200}.'
            )
        self._permissions = permissions

    async def answer(self, request: PermissionRequest, log: Logger | LoggerAdapter[Any]) -> Permission:
        """The answer to one request; a function that fails, or returns anything else, is a no."""
        if not callable(self._permissions):
            return "deny" if self._permissions == "deny" else "allow"
        try:
            answer = self._permissions(request)
            if inspect.isawaitable(answer):
                answer = await answer
            if answer not in get_args(Permission):
                raise TypeError(f'permissions must return "allow" or "deny", not {answer!r:.200}')
        except Exception:
            log.exception("The function given as permissions failed: the agent was told no.")
            return "deny"
        return "allow" if answer == "allow" else "deny"
