"""One awake actor: wake it, call its hooks and actions, end it. ``supervisor`` keeps ``run`` going."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import anyio

from agentq_nb._actor.action import Action
from agentq_nb._actor.actor import Actor
from agentq_nb._actor.actor_context import Records
from agentq_nb._actor.failure_record import FAILURES
from agentq_nb._actor.message import describe
from agentq_nb._actor.queue import Queue
from agentq_nb._brokers.base import Commit, Lease, NewMessage, Settlement
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb._core.interrupts import from_outside
from agentq_nb._core.time_slice import TimeSlices
from agentq_nb._runtime.actions import presentable
from agentq_nb._runtime.actor_lifecycle import Idleness, stop_later, wind_down
from agentq_nb._runtime.call_task import CallTask
from agentq_nb._runtime.context import AwakeActorContext, logger_of
from agentq_nb._runtime.delivery import Deliveries
from agentq_nb._runtime.in_flight import InFlight, Receiver
from agentq_nb._runtime.invocation import Call, new_messages
from agentq_nb._runtime.settlement import Interruption
from agentq_nb._runtime.state import Committed
from agentq_nb._runtime.state_migration import load_state
from agentq_nb._runtime.supervisor import Supervisor
from agentq_nb.errors import InternalError, LeaseLost, Unavailable, ValidationFailed

Reason: TypeAlias = Literal["going to sleep", "stopping", "being replaced", "being destroyed", "without its store"]

_STRENGTH: list[Any] = ["going to sleep", "being replaced", "being destroyed", "stopping", "without its store"]


class Surroundings(Protocol):
    """The part of the host that an activation uses."""

    clock: Clock
    slices: TimeSlices

    @property
    def workspaces(self) -> Path: ...
    def client_for_actors(self) -> Any: ...
    def records_of(self, actor: ActorId) -> Records: ...
    def broadcast(self, actor: ActorId, event: str, payload: Any) -> None: ...
    def note_failure(self, actor: ActorId, where: str, error: dict[str, Any]) -> None: ...
    async def push(self, actor: ActorId, queue: str, body: Any, options: Mapping[str, Any]) -> Any: ...
    async def cancel_message(self, message: MessageId) -> bool: ...


class Activation:
    """An actor that is awake or waking. :meth:`live` owns every task that runs for it."""

    def __init__(self, host: Surroundings, cls: type[Actor], lease: Lease) -> None:
        self.host = host
        self.cls = cls
        self.lease = lease
        self.clock = host.clock
        self.slices = host.slices
        self.actor_id = lease.actor
        self.name = actor_name(lease.actor)
        self.committed = Committed(cls.declared.state, self.actor_id, None)
        self.in_flight = InFlight(self)
        self.deliveries = Deliveries(self, self.in_flight)
        self.log = logger_of(self.actor_id)
        self.runtime = AwakeActorContext(self)
        self.closing: str | None = None
        self.to_be_destroyed = False
        """Whether the actor was asked to end for good, even if something else ends this activation first."""
        self.started = asyncio.Event()
        self.close_asked = asyncio.Event()
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None
        """Why the actor could not start."""
        self.last_error: dict[str, Any] | None = None
        self._completed_before_error = 0
        self._tasks: asyncio.TaskGroup | None = None
        self._parts: set[asyncio.Task[None]] = set()
        self._over = False
        """Whether its tasks are being cancelled because the activation ends."""
        self.supervisor = Supervisor(self)
        self.call_tasks: dict[Call, CallTask] = {}
        self.instance: Actor | None = None
        self._idleness = Idleness(self.clock, cls.declared.sleep_timeout, lambda: self.close("going to sleep"))
        lease.cancelling = self._cancel_held

    # --- waking and running -------------------------------------------------------------------------------------------

    async def live(self, input: Any) -> None:
        """Run the activation from waking to its end. Never raises: errors are in ``failure`` and ``last_error``."""
        try:
            # Not anyio's task group: with its exit it costs three times as much, which matters with 10,000 actors.
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self.begin(self._watch_lease())
                try:
                    await self._wake(input)
                    self.started.set()
                    self.begin(self.supervisor.keep_running())
                    self.begin(self.supervisor.call_scheduled())
                    self.changed()
                    await self.close_asked.wait()
                    await wind_down(self)
                except Exception as error:
                    self.failure = presentable(error, "waking", self.actor_id)
                    described = describe(self.failure)
                    self.note_error(described)
                    FAILURES.note_actor(self.actor_id, "waking", described)
                self._over = True
                for task in list(self._parts):
                    task.cancel()
        finally:
            self._over = True
            self.closing = self.closing or "stopping"
            self.deliveries.close()
            self._idleness.close()
            for call_task in list(self.call_tasks.values()):
                call_task.stop()
            with anyio.CancelScope(shield=True), suppress(LeaseLost, Unavailable):
                await self.lease.release()
            self.started.set()
            self.ended.set()

    def begin(self, part: Coroutine[Any, Any, None]) -> None:
        """Start a task beside ``run`` that lasts no longer than the activation."""
        assert self._tasks is not None
        task = self._tasks.create_task(part)
        self._parts.add(task)
        task.add_done_callback(self._part_ended)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        self._parts.discard(task)
        if task.cancelled() and not self._over:
            self.note_error(
                describe(
                    InternalError(
                        f"Other code in the host's event loop has cancelled the tasks of actor '{self.actor_id}' (by "
                        "cancelling all tasks there, perhaps). The actor sleeps until there is work for it. Let that "
                        "code cancel its own tasks only."
                    )
                )
            )
            self.close("going to sleep")

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
        except BaseException as error:  # would end the host with every other actor
            raise presentable(error, "constructor", self.actor_id) from error
        if encoded is None:
            await self._create(instance, input)
        await self.hook("on_wake", instance.on_wake)

    async def _create(self, instance: Actor, input: Any) -> None:
        first = copy.deepcopy(self.cls.declared.first_state)
        if first is not None:
            self.committed.replace(first)
        self.committed.begin()
        await self.hook("on_create", lambda: instance.on_create(input), creating=True)

    async def hook(self, name: str, function: Callable[[], Any], *, creating: bool = False) -> None:
        """Call a hook and write what it changed. A failed creation writes nothing: the next wake-up retries it."""
        call = Call(self.actor_id, "hook", name)
        # Most classes define few hooks; one that is not overridden does nothing and needs no task.
        commit, error = self.conclude(call, await self._hooked(call, function) if self._declares(name) else None)
        if error is not None:
            raise presentable(error, f"hook {call.name}", self.actor_id)
        if creating and commit.state is None:
            commit = Commit(commit.settlements, b"null", commit.schedule)
        await self.write(commit)
        await call.end()

    def _declares(self, hook: str) -> bool:
        return getattr(self.cls, hook) is not getattr(Actor, hook) or hook in vars(self.instance or ())

    async def _hooked(self, call: Call, function: Callable[[], Any]) -> BaseException | None:
        call_task = self.perform(call, function)
        if self.closing is not None:
            stop_later(call_task, self.clock)
        return await call_task.finished

    # --- closing ------------------------------------------------------------------------------------------------------

    def close(self, reason: Reason) -> None:
        """Accept no more messages and end as gracefully as the reason allows. The strongest reason given wins."""
        if self.closing is None or _STRENGTH.index(reason) > _STRENGTH.index(self.closing):
            self.closing = reason
        if reason == "being destroyed":
            self.to_be_destroyed = True
        if not self.started.is_set():
            for call_task in self.call_tasks.values():
                stop_later(call_task, self.clock)
        self.deliveries.close()
        self.close_asked.set()
        if reason == "without its store":
            for call_task in list(self.call_tasks.values()):
                call_task.stop()

    def failed(self, where: str, error: BaseException) -> None:
        """Report that ``run`` or a hook failed: in ``status()``, in the logger and in the event log."""
        described = describe(error)
        self.note_error(described)
        FAILURES.note_actor(self.actor_id, where, described)
        self.host.note_failure(self.actor_id, where, described)

    def note_error(self, described: dict[str, Any]) -> None:
        """Keep the last error for ``status()``."""
        self.last_error = described
        self._completed_before_error = self.in_flight.completed

    @property
    def recovered(self) -> bool:
        """Whether a message has completed since the last error."""
        return self.in_flight.completed > self._completed_before_error

    # --- calls of user code -------------------------------------------------------------------------------------------

    def perform(self, call: Call, function: Callable[[], Any]) -> CallTask:
        """Start a call in its own task; the actor is not idle until the call has ended or was abandoned."""
        call.at_failure = self.failed
        call_task = CallTask(call, function, self.clock)
        self.call_tasks[call] = call_task
        call_task.finished.add_done_callback(lambda _: self._performed(call))
        self.changed()
        return call_task

    def _performed(self, call: Call) -> None:
        self.call_tasks.pop(call, None)
        self.changed()

    @property
    def acting(self) -> bool:
        """Whether an action is running."""
        return any(call.kind == "action" for call in self.call_tasks)

    def conclude(self, call: Call, error: BaseException | None) -> tuple[Commit, BaseException | None]:
        """Return the commit of an ended call (its messages' settlements, its state, what it scheduled) and its error.

        An action or hook that failed writes no state; one whose state does not fit its type has failed.
        """
        changes: dict[str, Any] = {}
        if isinstance(error, asyncio.CancelledError) or from_outside(error):
            for receiver in call.receivers:
                receiver.interrupted = receiver.interrupted or "stopped"
        if error is None:
            try:
                changes = self._changed_by(call)
            except ValidationFailed as invalid:
                error = invalid
        settlements: list[Settlement] = []
        scheduled: list[NewMessage] = []
        state: bytes | None = None
        for receiver in call.receivers:
            if (commit := self.in_flight.end(receiver, error)) is not None:
                settlements += commit.settlements
                scheduled += commit.schedule
                state = commit.state or state
        if changes:
            state = self.committed.take(changes, from_copy=False)
        if error is None:
            scheduled += new_messages(call.scheduled, self.clock.time())
        elif call.state_before is not None:
            others = [other.state_before for other in self.call_tasks if other is not call]
            self.committed.restore(call.state_before, [before for before in others if before is not None])
        return Commit(settlements, state, scheduled), error

    def _changed_by(self, call: Call) -> dict[str, Any]:
        """Return the fields that the call changed; for an action, those changed since it first touched the state."""
        if call.kind == "hook":
            return self.committed.unsaved()
        if call.kind == "run" or call.state_before is None:
            return {}
        return self.committed.unsaved(call.state_before)

    async def write(self, commit: Commit) -> None:
        """Write a commit, durable on return.

        Even an empty one waits for the disk if there is a state: the call may have read changes that another call has
        merged but not yet written.
        """
        if commit.settlements or commit.schedule or self.committed.schema is not None or commit.state is not None:
            await self.lease.commit(commit)

    # --- for the host, the mailbox and the schedule -------------------------------------------------------------------

    @property
    def actions(self) -> Mapping[str, Action]:
        return self.cls.declared.actions

    @property
    def finishing(self) -> bool:
        """Whether it is closing but first finishes a message or a ``keep_awake``."""
        return self.closing is not None and bool(self.in_flight.busy or self.runtime.kept_awake)

    @property
    def queues(self) -> Mapping[str, Queue[Any, Any]]:
        return self.cls.declared.queues

    def run(self) -> Any:
        assert self.instance is not None
        return self.instance.run()

    async def push(self, queue: str, body: Any, options: Mapping[str, Any]) -> Any:
        return await self.host.push(self.actor_id, queue, body, options)

    async def cancel_message(self, message: MessageId) -> bool:
        return await self.host.cancel_message(message)

    # --- interrupting a handler ---------------------------------------------------------------------------------------

    def interrupt(self, receiver: Receiver, why: Interruption) -> None:
        """Cancel the task that handles the receiver's messages, and the whole call if that task does not end."""
        call_task = self.call_tasks.get(receiver.call)
        if call_task is None or not receiver.held:
            return
        receiver.interrupted = why
        if receiver.task is not None and receiver.task is not call_task.task:
            receiver.task.cancel()
        call_task.stop()

    def stand_down(self, receiver: Receiver) -> None:
        """Let the handler go on: it was stopped because of a message, and has settled that message."""
        call_task = self.call_tasks.get(receiver.call)
        if call_task is not None and self.closing is None:
            receiver.interrupted = None
            call_task.stand_down()

    def _cancel_held(self, message: MessageId) -> None:
        receiver = self.in_flight.find(message)
        if receiver is not None:
            self.interrupt(receiver, "cancelled")

    def changed(self) -> None:
        """Update idleness after something began or ended."""
        if self.in_flight.busy:
            self._idleness.note(False)
            return
        in_hook = any(call.kind == "hook" for call in self.call_tasks)
        self._idleness.note(
            not (self.acting or in_hook or self.runtime.kept_awake or self.closing) and self.supervisor.is_idle()
        )
