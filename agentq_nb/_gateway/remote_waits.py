"""Long waits as a row of short ones, so that they outlive lost connections, blocked hosts and kernels."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from agentq_nb._gateway.remote_calls import Patience
from agentq_nb._gateway.transport_calls import LONGEST_WAIT, Call
from agentq_nb.errors import HostBlocked, HostUnreachable, Unavailable

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

_AFTER_BLOCKED = 0.5
"""Seconds after which a host is asked again that was blocked."""


class Ask(Protocol):
    """Sends a call from any loop, see :meth:`agentq_nb._gateway.remote_calls.RemoteCalls.ask`."""

    def __call__(
        self,
        call: Call[Asked, Answered],
        asked: Asked,
        /,
        *,
        patience: Patience = "default",
        read_timeout: float | None = ...,
    ) -> Coroutine[Any, Any, Answered]: ...


async def wait_until(
    is_over: Callable[[Answered], bool],
    ask: Callable[[float, Patience], Coroutine[Any, Any, Answered]],
    timeout: float | None,
) -> Answered:
    """Ask until the answer says that the wait is over, or for ``timeout`` seconds (None: no limit); return the last answer.

    ``ask`` takes how many seconds the host may wait with its answer, and the patience with a host that is out of reach.
    Raises what it raises; if the host is out of reach when the time is up, only if it never answered.
    """
    clock = asyncio.get_running_loop().time
    deadline = math.inf if timeout is None else clock() + timeout
    answers: list[Answered] = []
    while True:
        left = max(0.0, deadline - clock())
        patience: Patience = "default" if timeout == 0 else None if timeout is None else left
        try:
            answers[:] = [await ask(min(left, LONGEST_WAIT), patience)]
            if is_over(answers[0]):
                return answers[0]
        except HostBlocked:
            if not answers and left == 0:
                raise
            await asyncio.sleep(min(left, _AFTER_BLOCKED))
        except (HostUnreachable, Unavailable):
            if not answers:
                raise
        if answers and clock() >= deadline:
            return answers[0]
