"""Calls into the host from the gateway's thread: each runs on the host's event loop, or fails if that is blocked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import Any, TypeVar

from agentq_nb._core.loop_callbacks import LoopCallbacks
from agentq_nb._core.origin import Origin, under
from agentq_nb._core.tagged_values import plain
from agentq_nb._host.host import Host
from agentq_nb._host.registry_server import Serveable
from agentq_nb.errors import HostBlocked

Returned = TypeVar("Returned")

PATIENCE = 5.0
"""Seconds that a call waits for its turn on the host's event loop."""


class HostCalls:
    """Runs coroutine functions on the event loop of the registry's host, from another thread's loop, always the same.

    :param origin: where its calls come from, at best. What handles them may say that they come from where less is trusted.
    :param patience: seconds after which a call that has not started is given up.
    """

    def __init__(self, registry: Serveable, origin: Origin, patience: float = PATIENCE) -> None:
        self._registry = registry
        self._origin = origin
        self._patience = patience

    @cached_property
    def _callbacks(self) -> LoopCallbacks:
        """For answers: made on the loop of the caller, always the same."""
        return LoopCallbacks(asyncio.get_running_loop())

    @property
    def host(self) -> Host:
        """The running host. Raises NoHost."""
        return self._registry.host

    async def run(self, function: Callable[[Host], Coroutine[Any, Any, Returned]]) -> Returned:
        """Return what ``function`` returns for the host. Cancelling the caller cancels the call.

        Raises NoHost; HostBlocked if the call has not started in time, and then it never does.
        """
        host = self.host
        turn = _Turn()
        with under(self._origin):  # the call runs in the context in which it is submitted
            answer = self._callbacks.wrap(host.portal.submit(turn.begin, function, host))

        def give_up() -> None:
            if turn.take():
                answer.cancel()

        timer = asyncio.get_running_loop().call_later(self._patience, give_up)
        try:
            return await answer
        except asyncio.CancelledError:
            if turn.given_up:
                raise HostBlocked(self._patience, _place(host), host.portal.apart) from None
            raise
        finally:
            timer.cancel()

    async def run_plain(self, function: Callable[[Host], Coroutine[Any, Any, Any]], what: str) -> Any:
        """Return a copy of what ``function`` returns, made on the host's loop, where nothing changes it meanwhile."""

        async def copied(host: Host) -> Any:
            return plain(await function(host), what)

        return await self.run(copied)


class _Turn:
    """One call's turn on the host's loop: it either begins there or is given up, whichever comes first."""

    def __init__(self) -> None:
        self._taken = threading.Lock()
        self.given_up = False

    def take(self) -> bool:
        """Give the call up. Returns False if it has started."""
        self.given_up = self._taken.acquire(blocking=False)
        return self.given_up

    async def begin(self, function: Callable[[Host], Coroutine[Any, Any, Returned]], host: Host) -> Returned:
        if not self._taken.acquire(blocking=False):
            raise asyncio.CancelledError
        return await function(host)


def _place(host: Host) -> str | None:
    """Return the line of code that blocks the host's loop, as far as it is known."""
    stall = host.stall
    return None if stall is None or stall.suspended else stall.place
