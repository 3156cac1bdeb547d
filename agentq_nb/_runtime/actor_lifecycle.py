"""Wake an actor, call its hooks, put it to sleep when it is idle, and wind down what runs when it ends."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.failure_record import FAILURES
from agentq_nb._actor.message import describe
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.messages import Commit
from agentq_nb._core.clock import Clock, Timer
from agentq_nb._core.origin import PROCESS, Origin
from agentq_nb._runtime import call_task, crons
from agentq_nb._runtime.actions import presentable
from agentq_nb._runtime.activation import Activation, Surroundings
from agentq_nb._runtime.call_task import stop_later
from agentq_nb._runtime.context import AwakeActorContext
from agentq_nb._runtime.handler_calls import dispatchers, keep_places
from agentq_nb._runtime.invocation import Call
from agentq_nb._runtime.state_migration import load_state
from agentq_nb._runtime.supervisor import Supervisor
from agentq_nb.errors import LeaseLost, Unavailable


class AwakeActor(Activation):
    """An actor that is awake, or on its way: from waking to the end. All that runs for it is owned by :meth:`live`."""

    def __init__(self, host: Surroundings, cls: type[Actor], lease: Lease) -> None:
        super().__init__(host, cls, lease)
        self.runtime = AwakeActorContext(self)
        self.supervisor = Supervisor(self)
        self.origin: Origin = PROCESS
        """Where the call came from that woke it: the input of ``on_create`` is from there."""
        sleep_timeout = cls.declared.sleep_timeout
        self._idleness = Idleness(self.clock, sleep_timeout, self._is_idle, lambda: self.close("going to sleep"))

    async def live(self, input: Any) -> None:
        """Run the activation from waking to its end. Never raises: errors are in ``failure`` and ``last_error``."""
        try:
            # asyncio's own: a task group of anyio, and its end, cost three times as much, which 10,000 actors feel.
            async with asyncio.TaskGroup() as tasks:
                self.tasks = tasks
                self.begin(self._watch_lease())
                try:
                    await self._wake(input)
                    self.started.set()
                    self.begin(self.supervisor.keep_running())
                    self.begin(self.supervisor.call_scheduled())
                    keep_places(self)
                    for dispatcher in dispatchers(self):
                        self.begin(dispatcher.keep_calling())
                    self.changed()
                    await self.close_asked.wait()
                    await _wind_down(self)
                except Exception as error:
                    self.failure = presentable(error, "waking", self.actor_id)
                    described = describe(self.failure)
                    self.note_error(described)
                    FAILURES.note_actor(self.actor_id, "waking", described)
                self.over = True
                for task in list(self.parts):
                    task.cancel()
        finally:
            self.over = True
            self.closing = self.closing or "stopping"
            self.deliveries.close()
            self._idleness.close()
            for running in list(self.call_tasks.values()):
                running.stop()
            with anyio.CancelScope(shield=True), suppress(LeaseLost, Unavailable):
                await self.lease.release()
            self.started.set()
            self.supervisor.begun.set()
            self.ended.set()

    async def _watch_lease(self) -> None:
        await self.lease.lost.wait()
        self.close("without its store")

    async def _wake(self, input: Any) -> None:
        encoded = self.lease.state
        self.committed = load_state(self.cls, self.actor_id, encoded)
        instance = self.instance = object.__new__(self.cls)
        instance.runtime = self.runtime
        try:
            instance.__init__()
        except Exception:
            raise
        except BaseException as error:  # it would end the host, with every other actor
            raise presentable(error, "constructor", self.actor_id) from error
        if encoded is None:
            await self._create(input)
        await crons.store_declared(self)
        await self.hook("on_wake")

    async def _create(self, input: Any) -> None:
        first = copy.deepcopy(self.cls.declared.first_state)
        if first is not None:
            self.committed.replace(first)
        self.committed.begin()
        await self.hook("on_create", input, creating=True)

    async def hook(self, name: str, *arguments: Any, creating: bool = False) -> None:
        """Call a hook and write what it changed. A failed creation writes nothing: the next wake-up retries it."""
        call = Call(self.actor_id, "hook", name, origin=self.origin if creating else PROCESS)
        # Most classes leave most hooks as they are: those do nothing, for which no task is needed.
        commit, error = self.conclude(call, await self._hooked(call, arguments) if self._declares(name) else None)
        if error is not None:
            raise presentable(error, f"hook {call.name}", self.actor_id)
        if creating and commit.state is None:
            commit = Commit(commit.settlements, b"null", commit.schedule)
        await self.write(commit)
        await call.end()

    def _declares(self, hook: str) -> bool:
        names = (hook, "_call_hook")
        return any(getattr(self.cls, name) is not getattr(Actor, name) for name in names) or hook in vars(
            self.instance or ()
        )

    async def _hooked(self, call: Call, arguments: tuple[Any, ...]) -> BaseException | None:
        instance = self.instance
        assert instance is not None
        called = instance._call_hook  # pyright: ignore[reportPrivateUsage]  # private to the package
        performed = self.perform(call, lambda: called(call.name, *arguments))
        if self.closing is not None:
            stop_later(performed, self.clock)
        return await performed.finished

    def changed(self) -> None:
        self._idleness.note(self._is_idle())

    def _is_idle(self) -> bool:
        if self.in_flight.receivers:
            return False
        in_hook = any(call.kind == "hook" for call in self.call_tasks)
        return not (self.acting or in_hook or self.kept_awake) and self.supervisor.is_idle()


async def _wind_down(activation: AwakeActor) -> None:
    """End all calls as gracefully as the reason allows, then call the last hook. The reason may change meanwhile."""
    if activation.closing == "without its store":
        await _all_finished(activation, call_task.GRACE)
        return
    await _let_finish(activation)
    for receiver in activation.in_flight.receivers:
        receiver.interrupted = receiver.interrupted or "stopped"
    for running in list(activation.call_tasks.values()):
        running.stop()
    await _all_finished(activation, None)
    if activation.instance is None or activation.closing == "without its store":
        return
    await _last_hook(activation)
    if activation.to_be_destroyed:
        await activation.lease.commit(Commit(destroy=True))


async def _let_finish(activation: AwakeActor) -> None:
    """A stop waits for the grace period. Otherwise messages and actions finish first; then ``run`` gets that period."""
    until: float | None = None
    while (activation.call_tasks or activation.kept_awake) and activation.closing != "without its store":
        now = activation.clock.monotonic()
        busy = bool(activation.in_flight.receivers) or activation.acting or activation.kept_awake
        if busy and activation.closing != "stopping":
            until = None
            await _all_finished(activation, 0.5)
            continue
        until = until or now + call_task.GRACE
        if now >= until:
            return
        await _all_finished(activation, until - now)


async def _all_finished(activation: AwakeActor, timeout: float | None) -> None:
    """Return when all calls have ended, or after ``timeout`` seconds; with one, also wait for each ``keep_awake``."""
    finished: list[asyncio.Future[Any]] = [running.finished for running in activation.call_tasks.values()]
    if timeout is not None:
        finished += activation.kept_awake
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


async def _last_hook(activation: AwakeActor) -> None:
    """Call ``on_destroy`` or ``on_sleep``. An error in it is reported and delays nothing.

    A lost lease or an unavailable broker is not an error of the hook.
    """
    name = "on_destroy" if activation.to_be_destroyed else "on_sleep"
    try:
        await activation.hook(name)
    except (LeaseLost, Unavailable):
        return
    except Exception as error:
        activation.failed(name, error)


class Idleness:
    """Calls ``sleep`` after ``timeout`` seconds without work. Its one timer is set again when it rings too early.

    Asking the broker for work is not noted, for it happens too often; so when the timer rings, ``is_idle`` decides. If
    the answer is still under way then, a sleep would put back what it brings, and wake for it and sleep again for ever.
    """

    def __init__(
        self, clock: Clock, timeout: float | None, is_idle: Callable[[], bool], sleep: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self._is_idle = is_idle
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
        if left > 0:
            self._timer = self._clock.call_later(left, self._ring)
        elif self._is_idle():
            self._sleep()
        else:
            self._since = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timeout = None
