"""What an awake actor can reach: ``self.queue``, ``self.state``, ``self.schedule`` and the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agentq_nb._actor.actor_context import ActorLog, CallLimits, CallStart, Handling
from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._brokers.messages import Commit
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import actor_key, actor_name
from agentq_nb._core.origin import Origin, current_origin
from agentq_nb._runtime import call_task
from agentq_nb._runtime.activation import Activation
from agentq_nb._runtime.invocation import Call, Receiver, current_call, current_receiver, handled_by_callers
from agentq_nb._runtime.schedule import ActorSchedule
from agentq_nb.errors import StateReadOnly

Returned = TypeVar("Returned")


class AwakeActorContext:
    """See :class:`agentq_nb._actor.actor_context.Runtime`. One per activation."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self.actor_id = activation.actor_id
        self.name = actor_name(self.actor_id)
        self.key = actor_key(self.actor_id)
        self.mailbox = Mailbox(activation.deliveries)
        self.schedule: ActorSchedule = ActorSchedule(activation)
        self.records: ActorLog = activation.host.records_of(self.actor_id)
        self.workspaces: Path = activation.host.workspaces
        self.log = logger_of(activation.actor_id)

    @property
    def moved(self) -> bool:
        return self._activation.lease.moved

    @property
    def actors(self) -> Any:
        return self._activation.host.client_for_actors()

    @property
    def caller(self) -> Call | None:
        call = current_call.get()
        return None if call is None else call.caller

    @property
    def origin(self) -> Origin:
        return current_origin.get()

    @property
    def handling(self) -> Handling | None:
        return handled_by_callers()

    @property
    def aborted(self) -> bool:
        call = current_call.get()
        return self._activation.closing is not None or (call is not None and call.stopped)

    @property
    def clock(self) -> Clock:
        return self._activation.clock

    @property
    def resumed_at(self) -> float:
        return self._activation.host.resumed_at

    @property
    def limits(self) -> CallLimits:
        return self._activation.host.call_limits

    async def start_call(self, call: str, bound: Sequence[str]) -> CallStart:
        return await self._activation.host.start_call(self.actor_id, call, bound)

    async def until_closing(self) -> None:
        """Return when the actor is asked to end. Its actions are not called after that."""
        await self._activation.close_asked.wait()

    # --- state --------------------------------------------------------------------------------------------------------

    def get_state(self) -> Any:
        committed = self._activation.committed
        receiver = self._holding()
        if receiver is not None:
            return receiver.view(committed) if receiver.read_only else receiver.working_copy(committed).value
        self._note_first_touch()
        return committed.shared

    def set_state(self, value: Any) -> None:
        committed = self._activation.committed
        receiver = self._holding()
        if receiver is not None:
            if receiver.read_only:
                raise StateReadOnly()
            receiver.working_copy(committed).replace(value)
        else:
            self._note_first_touch()
            committed.replace(value)

    def _holding(self) -> Receiver | None:
        receiver = current_receiver.get()
        return receiver if receiver is not None and receiver.held and receiver.actor_id == self.actor_id else None

    def _note_first_touch(self) -> None:
        call = current_call.get()
        if call is not None and call.kind == "action" and call.state_before is None:
            committed = self._activation.committed
            call.state_before = committed.fields_of(committed.shared) if committed.present else {}

    async def save_state(self) -> None:
        committed = self._activation.committed
        changes = committed.unsaved()
        state = committed.take(changes, from_copy=False) if changes else None
        await self._activation.lease.commit(Commit(state=state))

    # --- staying awake and ending -------------------------------------------------------------------------------------

    async def keep_awake(self, awaitable: Awaitable[Returned]) -> Returned:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._activation.kept_awake.add(done)
        self._activation.changed()
        try:
            return await awaitable
        finally:
            done.set_result(None)
            self._activation.kept_awake.discard(done)
            self._activation.changed()

    async def in_thread(self, function: Callable[..., Returned], *args: Any) -> Returned:
        return await call_task.in_thread(function, *args)

    def broadcast(self, event: str, payload: Any) -> None:
        self._activation.host.broadcast(self.actor_id, event, payload)

    def failed(self, where: str, error: BaseException) -> None:
        """Report a failure of this actor's background work: it becomes the last error in ``status()``."""
        self._activation.failed(where, error)

    def sleep(self) -> None:
        self._activation.close("going to sleep")

    def destroy(self) -> None:
        self._activation.close("being destroyed")


def logger_of(actor_id: str) -> logging.LoggerAdapter[logging.Logger]:
    """Return the logger ``agentq.<actor name>``, whose records have the ``actor_id``."""
    return logging.LoggerAdapter(logging.getLogger(f"agentq.{actor_name(actor_id)}"), {"actor_id": actor_id})
