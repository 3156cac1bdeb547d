"""Schedule an actor's own actions for later. Each scheduled call is a message of a reserved queue."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from agentq_nb._actor.action import Action
from agentq_nb._actor.actor_context import Scheduled
from agentq_nb._actor.message import CRON_QUEUE, SCHEDULE_QUEUE
from agentq_nb._actor.send_options import origin_of
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.messages import Commit, Delivery, NewMessage
from agentq_nb._core.clock import Clock, timestamp
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import ActorId, MessageId, mint_id
from agentq_nb._core.number_options import LONGEST, is_delay
from agentq_nb._core.origin import PROCESS, Origin, current_origin, least_trusted
from agentq_nb._policies import cron as cron_policy
from agentq_nb._policies.cron import Cron
from agentq_nb._runtime import crons
from agentq_nb._runtime.crons import CronCall
from agentq_nb._runtime.invocation import Planned, current_call, current_receiver, new_messages
from agentq_nb.errors import ActionNotFound, MessageUnknown, ValidationFailed

_ARGUMENTS: Schema[list[Any]] = Schema(list[Any])

Unwritten: TypeAlias = list[list[Planned]]

_MOST_ARGUMENTS = 32 << 10
"""Bytes of the arguments of a cron schedule: they are written again with each call."""

_LONGEST_NAME = 200


class Planner(Protocol):
    """The activation a schedule belongs to."""

    actor_id: ActorId
    name: str
    lease: Lease
    clock: Clock

    @property
    def actions(self) -> Mapping[str, Action]: ...

    @property
    def crons(self) -> Mapping[str, Cron]:
        """The schedules that the class declares."""
        ...

    async def cancel_message(self, message: MessageId, *, even_running: bool = False) -> bool:
        """Cancel a message that has not started, or with ``even_running`` has not ended. Returns whether there was one."""
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

    async def cron(
        self, name: str, expression: str, action: str | Callable[..., Any], *args: Any, tz: str | None = None
    ) -> None:
        planner = self._planner
        cron = cron_policy.checked(expression, tz)
        self._check_name(name)
        action_name, arguments = self._call(action, args)
        try:
            planner.actions[action_name].signature.bind(*args)
        except TypeError as error:
            raise ValidationFailed(
                f"Schedule '{name}' passes {len(args)} arguments to action `{action_name}`: {error}. Write "
                f"self.schedule.cron(name, expression, action, *args) for "
                f"{action_name}{planner.actions[action_name].signature}."
            ) from None
        if len(arguments) > _MOST_ARGUMENTS:
            raise ValidationFailed(
                f"The arguments of schedule '{name}' take {len(arguments):,} bytes as JSON, and 32 KiB may be stored. "
                "Keep the data in self.state or in a file."
            )
        call = CronCall(name, cron, action_name, json.loads(arguments), False, 0.0)
        after, due = planner.clock.time(), None
        before, running, origin = await self._latest(name)
        here = current_origin.get()
        if before is not None and before.cron == cron:
            if before.equals(call) and least_trusted(here, origin) == here:
                return
            after, due = max(after, before.due), None if running else before.due
        if due is None and (due := cron_policy.next_run(cron, after)) is None:
            raise ValidationFailed(f"Cron expression '{expression}' matches no day within 50 years.")
        self._forget(name)
        await self._add(call._replace(due=due).planned(planner.actor_id))

    def _check_name(self, name: object) -> None:
        is_text = isinstance(name, str) and name.encode("utf-8", "replace").decode() == name
        if not is_text or not 0 < len(str(name)) <= _LONGEST_NAME:
            raise ValidationFailed(
                f"The name of a schedule is text of up to {_LONGEST_NAME} characters, such as 'daily'; not {name!r:.100}."
            )
        if name in self._planner.crons:
            raise ValidationFailed(
                f"Schedule '{name}' of {self._planner.name} is the one that @cron declares for action `{name}`. Use "
                "another name here, or change @cron in the class."
            )

    async def _latest(self, name: str) -> tuple[CronCall | None, bool, Origin]:
        """Return the schedule of this name as it will be, with what is not written yet; whether its call runs; its origin."""
        for waiting in self._unwritten():
            for planned in waiting:
                if planned.new_message.schedule == name:
                    return crons.read(planned.new_message.body), False, planned.new_message.origin
        stored = crons.latest(await self._planner.lease.unsettled(CRON_QUEUE)).get(name)
        if stored is None:
            return None, False, PROCESS
        return crons.read(stored.body), stored.running, origin_of(stored.options)

    async def list(self) -> Sequence[Scheduled]:
        lease = self._planner.lease
        found = [
            _scheduled(message.schedule or message.id, message.body, message.due or None, message.running)
            for queue in (CRON_QUEUE, SCHEDULE_QUEUE)
            for message in await lease.unsettled(queue)
            if not message.cancelling
        ]
        unwritten = {
            planned.new_message.schedule or planned.new_message.id: planned
            for waiting in self._unwritten()
            for planned in waiting
        }
        found = [each for each in found if each.name not in unwritten or each.running]
        found += [_scheduled(name, planned.new_message.body, planned.due) for name, planned in unwritten.items()]
        return sorted(found, key=lambda each: each.due)

    async def cancel(self, scheduled: str) -> bool:
        if scheduled in self._planner.crons:
            self._check_name(scheduled)
        found = self._forget(scheduled)
        while named := [
            message
            for message in await self._planner.lease.unsettled(CRON_QUEUE)
            if message.schedule == scheduled and not message.cancelling
        ]:
            for message in named:
                found = await self._planner.cancel_message(message.id, even_running=True) or found
        return found or await self._cancel_one(scheduled)

    async def _cancel_one(self, scheduled: MessageId) -> bool:
        try:
            return await self._planner.cancel_message(scheduled)
        except MessageUnknown:
            return False

    def _forget(self, scheduled: str) -> bool:
        """Drop a call that is not written yet. Returns whether there was one."""
        for waiting in self._unwritten():
            for planned in waiting:
                if scheduled in (planned.new_message.id, planned.new_message.schedule):
                    waiting.remove(planned)
                    return True
        return False

    async def _plan(self, due: float, action: str | Callable[..., Any], args: tuple[Any, ...]) -> MessageId:
        name, arguments = self._call(action, args)
        body = f'{{"action":{json.dumps(name)},"arguments":{arguments.decode()}}}'.encode()
        new_message = NewMessage(mint_id(), self._planner.actor_id, SCHEDULE_QUEUE, body)
        await self._add(Planned(due, new_message))
        return new_message.id

    def _call(self, action: str | Callable[..., Any], args: tuple[Any, ...]) -> tuple[str, bytes]:
        """Return the action's name and the arguments as JSON. Raises ActionNotFound, ValidationFailed."""
        name = action if isinstance(action, str) else getattr(action, "__name__", repr(action))
        if name not in self._planner.actions:
            raise ActionNotFound(self._planner.name, name, list(self._planner.actions))
        return name, _ARGUMENTS.dump(list(args), f"Arguments of the scheduled action `{name}`")

    async def _add(self, planned: Planned) -> None:
        """Write a call with the message or action that makes it; outside those now, durable on return."""
        planned = planned._replace(new_message=planned.new_message.from_origin(current_origin.get()))
        if unwritten := self._unwritten():
            unwritten[0].append(planned)
        else:
            planner = self._planner
            await planner.lease.commit(Commit(schedule=new_messages([planned], planner.clock.time())))

    def _unwritten(self) -> Unwritten:
        """Return the lists of calls to be written with what made them: first a held message's, then an action's."""
        found: Unwritten = []
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


def _scheduled(name: str, body: bytes, due: float | None, running: bool = False) -> Scheduled:
    call = json.loads(body)
    cron = call.get("cron", {})
    return Scheduled(
        name=name,
        action=call["action"],
        args=tuple(call["arguments"]),
        due=cron["due"] if due is None and cron else due or 0.0,
        running=running,
        expression=cron.get("expression"),
        tz=cron.get("tz"),
        declared=cron.get("declared", False),
    )
