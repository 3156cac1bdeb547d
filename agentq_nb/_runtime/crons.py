"""Cron schedules of an actor: each has one message, its next call, and every call that ends sends the next one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from agentq_nb._actor.message import CRON_QUEUE
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.messages import Commit, Delivery, NewMessage, Unsettled
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId, mint_id
from agentq_nb._policies.cron import Cron, following_run, next_run
from agentq_nb._runtime.invocation import Planned


class CronCall(NamedTuple):
    """What is stored of a schedule: the body of its message. ``due`` is the time of this call."""

    name: str
    cron: Cron
    action: str
    arguments: list[Any]
    declared: bool
    """Whether ``@cron`` in the class made it."""
    due: float

    def message(self, actor: ActorId) -> NewMessage:
        body = {
            "action": self.action,
            "arguments": self.arguments,
            "cron": {
                "name": self.name,
                "expression": self.cron.expression,
                "tz": self.cron.tz,
                "declared": self.declared,
                "due": self.due,
            },
        }
        encoded = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return NewMessage(mint_id(), actor, CRON_QUEUE, encoded, {"schedule": self.name})

    def planned(self, actor: ActorId) -> Planned:
        return Planned(self.due, self.message(actor))

    def equals(self, other: CronCall) -> bool:
        """Whether both are the same schedule, whenever they are due."""
        return self._replace(due=0.0) == other._replace(due=0.0)


def read(body: bytes) -> CronCall:
    """Return the schedule in the body of its message."""
    call = json.loads(body)
    stored = call["cron"]
    cron = Cron(stored["expression"], stored["tz"])
    return CronCall(stored["name"], cron, call["action"], call["arguments"], stored["declared"], stored["due"])


def latest(stored: Sequence[Unsettled]) -> dict[str, Unsettled]:
    """Return the current message of each schedule, by name: an earlier one is a call that still runs."""
    return {message.schedule: message for message in stored if message.schedule is not None and not message.cancelling}


def successor(actor: ActorId, delivery: Delivery, began: float, now: float) -> NewMessage | None:
    """Return the message of the next call of a schedule; None if there is none, or for a single call.

    Raises ``actor.validation_error`` if this machine does not know the time zone.
    """
    if delivery.queue != CRON_QUEUE:
        return None
    call = read(delivery.body)
    due = following_run(call.cron, call.due, began)
    if due is None:
        return None
    return call._replace(due=due).message(actor).from_origin(delivery.origin).delayed(max(0.0, due - now))


# --- @cron ------------------------------------------------------------------------------------------------------------


def differences(declared: Mapping[str, Cron], stored: Sequence[Unsettled]) -> tuple[list[str], list[MessageId]]:
    """Return the names of schedules to be stored as the class declares them, and the messages of those it has no more."""
    current = {name: read(message.body) for name, message in latest(stored).items()}
    missing = [
        name
        for name, cron in declared.items()
        if (call := current.get(name)) is None or not call.declared or call.cron != cron
    ]
    over = [
        message.id
        for message in stored
        if not message.cancelling and (call := read(message.body)).declared and call.name not in declared
    ]
    return missing, over


class CronOwner(Protocol):
    """The activation whose schedules they are."""

    actor_id: ActorId
    lease: Lease
    clock: Clock

    @property
    def crons(self) -> Mapping[str, Cron]: ...

    @property
    def cancel_message(self) -> Callable[..., Any]: ...


async def store_declared(owner: CronOwner) -> None:
    """Store the schedules that the class declares by ``@cron``, and end those that it no longer declares."""
    missing, over = differences(owner.crons, await owner.lease.unsettled(CRON_QUEUE))
    for message in over:
        await owner.cancel_message(message)
    now = owner.clock.time()
    calls: list[NewMessage] = []
    for name in missing:
        cron = owner.crons[name]
        if (due := next_run(cron, now)) is not None:
            call = CronCall(name, cron, name, [], True, due)
            calls.append(call.message(owner.actor_id).delayed(due - now))
    if calls:
        await owner.lease.commit(Commit(schedule=calls))
