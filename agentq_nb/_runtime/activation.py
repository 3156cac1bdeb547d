"""The data of one awake actor and what can be done with it: perform calls, write what they changed, interrupt, close."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from agentq_nb._actor.action import Action
from agentq_nb._actor.actor import Actor
from agentq_nb._actor.actor_context import ActorLog, CallLimits, CallStart
from agentq_nb._actor.failure_record import FAILURES
from agentq_nb._actor.handler import Handler
from agentq_nb._actor.message import Predecessor, describe
from agentq_nb._actor.queue import Queue
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.messages import Commit, NewMessage, Settlement, StoredResult
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb._core.interrupts import from_outside
from agentq_nb._core.time_slice import TimeSlices
from agentq_nb._policies.cron import Cron
from agentq_nb._runtime.call_task import CallTask, stop_later
from agentq_nb._runtime.delivery import Deliveries
from agentq_nb._runtime.in_flight import InFlight
from agentq_nb._runtime.invocation import Call, Interruption, Receiver, new_messages
from agentq_nb._runtime.state import Committed
from agentq_nb.errors import InternalError, ValidationFailed

Reason: TypeAlias = Literal["going to sleep", "stopping", "being replaced", "being destroyed", "without its store"]

_STRENGTH: list[Any] = ["going to sleep", "being replaced", "being destroyed", "stopping", "without its store"]


class Surroundings(Protocol):
    """The part of the host that an activation uses."""

    clock: Clock
    slices: TimeSlices

    @property
    def workspaces(self) -> Path: ...
    def client_for_actors(self) -> Any: ...
    def records_of(self, actor: ActorId) -> ActorLog: ...
    def broadcast(self, actor: ActorId, event: str, payload: Any) -> None: ...
    def note_failure(self, actor: ActorId, where: str, error: dict[str, Any]) -> None: ...
    @property
    def resumed_at(self) -> float: ...
    @property
    def call_limits(self) -> CallLimits: ...
    async def start_call(self, actor: ActorId, call: str, bound: Sequence[str]) -> CallStart: ...
    def note_swallowed(self, actor: ActorId, text: str) -> None: ...
    async def push(self, actor: ActorId, queue: str, body: Any, options: Mapping[str, Any]) -> Any: ...
    async def cancel_message(self, message: MessageId, *, even_running: bool = False) -> bool: ...
    def results(self, stored: Sequence[StoredResult]) -> Sequence[Predecessor]: ...


class Activation(ABC):
    """One actor while it is awake. :class:`~agentq_nb._runtime.actor_lifecycle.AwakeActor` wakes it and ends it."""

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
        self.kept_awake: set[asyncio.Future[None]] = set()
        """Each done when what keeps the actor awake has ended."""
        self.overdue: dict[MessageId, Receiver] = {}
        """Messages whose attempt has ended, though the thread of their handler still works and keeps its place."""
        self.closing: str | None = None
        self.to_be_destroyed = False
        """Whether the actor was asked to end and not to wake again, even if something else ends this activation first."""
        self.started = asyncio.Event()
        self.close_asked = asyncio.Event()
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None
        """Why the actor could not start."""
        self.last_error: dict[str, Any] | None = None
        self._completed_before_error = 0
        self.tasks: asyncio.TaskGroup | None = None
        self.parts: set[asyncio.Task[None]] = set()
        self.over = False
        """Whether its tasks are being cancelled because the activation ends."""
        self.call_tasks: dict[Call, CallTask] = {}
        self.instance: Actor | None = None
        self.queues: Mapping[str, Queue[Any, Any]] = cls.declared.queues
        self.handlers: Mapping[str, Handler] = cls.declared.handlers
        lease.cancelling = self._cancel_held
        lease.leaving = lambda: self.close("stopping")

    # --- what goes on beside run ---------------------------------------------------------------------------------------

    def begin(self, part: Coroutine[Any, Any, None]) -> None:
        """Start a task beside ``run`` that lasts no longer than the activation."""
        assert self.tasks is not None
        task = self.tasks.create_task(part)
        self.parts.add(task)
        task.add_done_callback(self._part_ended)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        self.parts.discard(task)
        if task.cancelled() and not self.over:
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

    # --- its end ------------------------------------------------------------------------------------------------------

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

    def limit_swallowed(self, message: MessageId, said: str) -> None:
        """See :class:`agentq_nb._runtime.settlement.Owner`."""
        self.host.note_swallowed(
            self.actor_id,
            f"Message {message} completed though its handler met a provider's limit, so its queue was not paused: {said} "
            "Let RateLimited pass, with `except RateLimited: raise` before other excepts.",
        )

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
        if call.kind != "action" or call.state_before is None:
            return {}
        return self.committed.unsaved(call.state_before)

    async def write(self, commit: Commit) -> None:
        """Write a commit, durable on return.

        Even an empty one waits for the disk if there is a state: the call may have read changes that another call has
        merged but not yet written.
        """
        has_content = commit.settlements or commit.schedule or commit.state is not None or commit.answer is not None
        if has_content or self.committed.schema is not None:
            await self.lease.commit(commit)

    # --- for the host, the mailbox and the schedule -------------------------------------------------------------------

    @property
    def actions(self) -> Mapping[str, Action]:
        return self.cls.declared.actions

    @property
    def crons(self) -> Mapping[str, Cron]:
        return self.cls.declared.crons

    @property
    def finishing(self) -> bool:
        """Whether it is closing but first finishes a message or a ``keep_awake``."""
        return self.closing is not None and bool(self.in_flight.receivers or self.kept_awake)

    def run(self) -> Any:
        assert self.instance is not None
        return self.instance.run()

    async def push(self, queue: str, body: Any, options: Mapping[str, Any]) -> Any:
        return await self.host.push(self.actor_id, queue, body, options)

    async def cancel_message(self, message: MessageId, *, even_running: bool = False) -> bool:
        return await self.host.cancel_message(message, even_running=even_running)

    def results(self, stored: Sequence[StoredResult]) -> Sequence[Predecessor]:
        return self.host.results(stored)

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

    def undo_interrupt(self, receiver: Receiver) -> None:
        """Let the handler continue: it was stopped because of a message, and has settled that message."""
        call_task = self.call_tasks.get(receiver.call)
        if call_task is not None and self.closing is None:
            receiver.interrupted = None
            call_task.undo_stop()

    def _cancel_held(self, message: MessageId) -> None:
        receiver = self.in_flight.find(message)
        if receiver is not None:
            self.interrupt(receiver, "cancelled")

    @abstractmethod
    def changed(self) -> None:
        """Update idleness after something began or ended."""
