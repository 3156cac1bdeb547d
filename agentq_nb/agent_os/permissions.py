"""What the user lets agents do that ask first."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from typing import Any, Literal, TypeAlias, get_args

import anyio

from agentq_nb.agent_os.values import AnsweredBy, Permission, PermissionRequest
from agentq_nb.showable import safe
from agentq_nb.threads import in_long_thread

Policy: TypeAlias = Literal["allow", "deny", "ask"]
Permissions: TypeAlias = Policy | Callable[[PermissionRequest], Any]
"""One word for whatever an agent asks, or a function, plain or ``async``, that gives one for each request. A plain one is
called in a thread."""

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

    ``timeout``: seconds that a request waits for the user, and for a function; ``None``: for as long as its prompt runs.
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

    @property
    def settled(self) -> bool:
        """Whether one word answers all requests, so that nobody looks at them."""
        return not callable(self._permissions) and self._permissions != "ask"

    async def decide(self, request: PermissionRequest, log: Logger | LoggerAdapter[Any]) -> Decision | None:
        """None: ask the user. A function that fails however it may, returns anything else than a word for it, or takes
        too long, is a no."""
        if not callable(self._permissions):
            return _decision(self._permissions, "setting")
        said: Any = None
        error: BaseException | None = None
        with anyio.move_on_after(self.timeout) as limit:
            said, error = await _called(self._permissions, request)
        if limit.cancelled_caught:
            reason = f"the function given as permissions did not answer within {self.timeout:g} s"
            log.warning("%s was refused: %s.", safe(request.title), reason)
            return Decision("deny", "timeout", reason)
        if error is None and not (isinstance(said, str) and said in get_args(Policy)):
            error = TypeError(f'permissions must return "allow", "deny" or "ask", not {said!r:.200}')
        if error is not None:
            log.error("The function given as permissions failed: the agent was told no.", exc_info=error)
            return Decision("deny", "function", "the function given as permissions failed")
        return _decision(said, "function")


_Outcome: TypeAlias = tuple[Any, BaseException | None]
_deciding: set[asyncio.Task[_Outcome]] = set()
"""The calls that nobody waits for any longer are here until they end."""


async def _called(function: Callable[[PermissionRequest], Any], request: PermissionRequest) -> _Outcome:
    """What a function of the user's returned or raised. In a task of its own: it may cancel itself, or not want to end."""
    task = asyncio.create_task(_outcome(function, request), name="agentq permissions")
    _deciding.add(task)
    task.add_done_callback(_deciding.discard)
    try:
        await asyncio.wait({task})
    finally:
        task.cancel()
    return (None, asyncio.CancelledError("it was cancelled")) if task.cancelled() else task.result()


async def _outcome(function: Callable[[PermissionRequest], Any], request: PermissionRequest) -> _Outcome:
    try:
        if any(inspect.iscoroutinefunction(called) for called in (function, type(function).__call__)):
            said = function(request)
        else:  # it may block, and the loop has other things to do
            said, error = await in_long_thread(_outcome_in_thread, function, request)
            if error is not None:
                return None, error
        return await said if inspect.isawaitable(said) else said, None
    except BaseException as error:  # its sys.exit() must not end the kernel
        return None, error


def _outcome_in_thread(function: Callable[[PermissionRequest], Any], request: PermissionRequest) -> _Outcome:
    try:
        return function(request), None
    except BaseException as error:
        return None, error


def _decision(policy: str, by: AnsweredBy) -> Decision | None:
    return None if policy == "ask" else Decision("allow" if policy == "allow" else "deny", by)
