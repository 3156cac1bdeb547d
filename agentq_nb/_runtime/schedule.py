"""Schedule an actor's own actions for later. Each scheduled call is a message of a reserved queue."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from agentq_nb._actor.action import Action
from agentq_nb._actor.message import SCHEDULE_QUEUE
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.values import Commit, Delivery, NewMessage
from agentq_nb._core.clock import Clock, timestamp
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import ActorId, MessageId, mint_id
from agentq_nb._core.number_options import LONGEST, is_delay
from agentq_nb._runtime.invocation import Planned, current_call, current_receiver
from agentq_nb.errors import ActionNotFound, ValidationFailed

_ARGUMENTS: Schema[list[Any]] = Schema(list[Any])


class Planner(Protocol):
    """The activation a schedule belongs to."""

    actor_id: ActorId
    name: str
    lease: Lease
    clock: Clock

    @property
    def actions(self) -> Mapping[str, Action]: ...

    async def cancel_message(self, message: MessageId) -> bool:
        """Cancel a message that has not begun. Returns whether there was one."""
        ...


class ActorSchedule:
    """See :class:`agentq_nb._actor.actor_context.Schedule`."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    async def after(self, seconds: float, action: str | Callable[..., Any], *args: Any) -> MessageId:
        if not is_delay(seconds) or seconds > LONGEST:
            raise ValidationFailed(f"schedule.after takes seconds from 0 to a hundred years, not {seconds!r}.")
        return await self._plan(self._planner.clock.time() + seconds, action, args)

    async def at(self, when: float | datetime, action: str | Callable[..., Any], *args: Any) -> MessageId:
        try:
            moment = timestamp(when)
        except (TypeError, ValueError, OverflowError):
            moment = math.nan
        if not moment <= self._planner.clock.time() + LONGEST:
            raise ValidationFailed(
                f"schedule.at takes a time within the next hundred years (seconds since 1970, or a datetime), not {when!r}."
            )
        return await self._plan(moment, action, args)

    async def cancel(self, scheduled: MessageId) -> bool:
        for waiting in self._unwritten():
            for planned in waiting:
                if planned.new_message.id == scheduled:
                    waiting.remove(planned)
                    return True
        return await self._planner.cancel_message(scheduled)

    async def _plan(self, due: float, action: str | Callable[..., Any], args: tuple[Any, ...]) -> MessageId:
        planner = self._planner
        name = action if isinstance(action, str) else action.__name__
        if name not in planner.actions:
            raise ActionNotFound(planner.name, name, list(planner.actions))
        arguments = _ARGUMENTS.dump(list(args), f"Arguments of the scheduled action `{name}`")
        body = f'{{"action":{json.dumps(name)},"arguments":{arguments.decode()}}}'.encode()
        delay = max(0.0, due - planner.clock.time())
        planned = Planned(due, NewMessage(mint_id(), planner.actor_id, SCHEDULE_QUEUE, body).delayed(delay))
        unwritten = self._unwritten()
        if unwritten:
            unwritten[0].append(planned)
        else:
            await planner.lease.commit(Commit(schedule=[planned.new_message]))
        return planned.new_message.id

    def _unwritten(self) -> list[list[Planned]]:
        """Return the lists of calls to be written with what made them: first a held message's, then an action's."""
        found: list[list[Planned]] = []
        receiver, call = current_receiver.get(), current_call.get()
        if receiver is not None and receiver.actor_id == self._planner.actor_id and receiver.held:
            found.append(receiver.scheduled)
        if call is not None and call.actor_id == self._planner.actor_id and call.kind not in ("run", "handler"):
            found.append(call.scheduled)
        return found


def read(delivery: Delivery) -> tuple[str, list[Any]]:
    """Return the action and the arguments of a scheduled call."""
    body = json.loads(delivery.body)
    return body["action"], body["arguments"]
