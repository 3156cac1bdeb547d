"""Which receivers have the places of concurrency limits: needed to refuse waits that could never end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.base import BrokerLimits
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._policies.concurrency_limit import ConcurrencyLimit
from agentq_nb._runtime.activation import Activation
from agentq_nb._runtime.invocation import Receiver


def full_limits(
    classes: Mapping[str, type[Actor]],
    activations: Iterable[Activation],
    limits: BrokerLimits,
    actor: ActorId,
    queue: str,
) -> dict[str, list[Receiver]]:
    """Return the named concurrency limits of a queue that have no free place, each with those who have the places.

    Limits without a name hold back only their own queue, whose receivers block each other anyway.
    """
    cls = classes.get(actor_name(actor))
    declared = None if cls is None else cls.declared.queues.get(queue)
    named = [limit.name for limit in declared.limits if isinstance(limit, ConcurrencyLimit)] if declared else []
    if not any(named):
        return {}
    counts = {status.name: status.count for status in limits.status()}
    full: dict[str, list[Receiver]] = {}
    for name in filter(None, named):
        holders = [
            receiver
            for activation in activations
            for receiver in activation.in_flight.receivers
            for message, _ in receiver.held.values()
            if name in [limit.name for limit in activation.queues[message.queue].limits]
        ]
        if len(holders) >= counts.get(name, len(holders) + 1):
            full[name] = holders
    return full
