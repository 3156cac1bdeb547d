"""End an activation: let calls finish within a grace period, stop them, call the last hook. Detect idleness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.base import Commit
from agentq_nb._core.clock import Clock, Timer
from agentq_nb._runtime.call_task import CallTask
from agentq_nb.errors import LeaseLost, Unavailable

if TYPE_CHECKING:
    from agentq_nb._runtime.activation import Activation


GRACE = 10.0
"""Seconds ``run`` may take to return after being asked to, and that a stop waits for messages in flight."""


async def wind_down(activation: Activation) -> None:
    """End all calls as gracefully as the reason allows, then call the last hook. The reason may change meanwhile."""
    if activation.closing == "without its store":
        await _all_finished(activation, GRACE)
        return
    await _let_finish(activation)
    for receiver in activation.in_flight.receivers:
        receiver.interrupted = receiver.interrupted or "stopped"
    for call_task in list(activation.call_tasks.values()):
        call_task.stop()
    await _all_finished(activation, None)
    instance = activation.instance
    if instance is None or activation.closing == "without its store":
        return
    await _last_hook(activation, instance)
    if activation.to_be_destroyed:
        await activation.lease.commit(Commit(destroy=True))


async def _let_finish(activation: Activation) -> None:
    """A stop waits for the grace period. Otherwise messages and actions finish first; then ``run`` gets that period."""
    runtime = activation.runtime
    until: float | None = None
    while (activation.call_tasks or runtime.kept_awake) and activation.closing != "without its store":
        now = activation.clock.monotonic()
        busy = activation.in_flight.busy or activation.acting or runtime.kept_awake
        if busy and activation.closing != "stopping":
            until = None
            await _all_finished(activation, 0.5)
            continue
        until = until or now + GRACE
        if now >= until:
            return
        await _all_finished(activation, until - now)


async def _all_finished(activation: Activation, timeout: float | None) -> None:
    """Return when all calls have ended, or after ``timeout`` seconds; with one, also wait for each ``keep_awake``."""
    finished: list[asyncio.Future[Any]] = [call_task.finished for call_task in activation.call_tasks.values()]
    if timeout is not None:
        finished += activation.runtime.kept_awake
    if not finished:
        return
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = set(finished)

    def one_more(future: asyncio.Future[Any]) -> None:
        left.discard(future)
        if not left:
            expire()

    def expire() -> None:
        if not enough.done():
            enough.set_result(None)

    for future in left.copy():
        future.add_done_callback(one_more)
    timer = None if timeout is None else activation.clock.call_later(timeout, expire)
    try:
        await enough
        await asyncio.sleep(0)
    finally:
        for future in left:
            future.remove_done_callback(one_more)
        if timer is not None:
            timer.cancel()


async def _last_hook(activation: Activation, instance: Actor) -> None:
    """Call ``on_destroy`` or ``on_sleep``. An error in it is reported and delays nothing.

    A lost lease or an unavailable broker is not an error of the hook.
    """
    name = "on_destroy" if activation.to_be_destroyed else "on_sleep"
    try:
        await activation.hook(name, getattr(instance, name))
    except (LeaseLost, Unavailable):
        return
    except Exception as error:
        activation.failed(name, error)


def stop_later(call_task: CallTask, clock: Clock) -> None:
    """Stop a call after the grace period."""
    timer = clock.call_later(GRACE, call_task.stop)
    call_task.finished.add_done_callback(lambda _: timer.cancel())


class Idleness:
    """Calls ``sleep`` after ``timeout`` seconds without work. Its one timer is set again when it rings too early."""

    def __init__(self, clock: Clock, timeout: float | None, sleep: Callable[[], None]) -> None:
        self._clock = clock
        self._timeout = timeout
        self._sleep = sleep
        self._since: float | None = None
        self._timer: Timer | None = None

    def note(self, idle: bool) -> None:
        """Note whether the actor is idle from now on. Cheap: called several times for each message."""
        if not idle:
            self._since = None
        elif self._since is None:
            self._since = self._clock.monotonic()
            if self._timer is None and self._timeout is not None:
                self._timer = self._clock.call_later(self._timeout, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._since is None or self._timeout is None:
            return
        left = self._since + self._timeout - self._clock.monotonic()
        if left <= 0:
            self._sleep()
        else:
            self._timer = self._clock.call_later(left, self._ring)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timeout = None
