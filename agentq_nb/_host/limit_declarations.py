"""The limits that actor classes declare, and the error when two of them declare one name in two ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentq_nb._actor.actor import Actor
from agentq_nb._policies.limits import Limit, conflict
from agentq_nb.errors import LimitConflict


def limits_of(cls: type[Actor]) -> dict[str, Sequence[Limit]]:
    """Return the limits of a class by queue; only of queues that have any."""
    return {name: queue.limits for name, queue in cls.declared.queues.items() if queue.limits}


def check_limits(classes: Mapping[str, type[Actor]]) -> None:
    """Raise LimitConflict where two queues of these classes declare a limit of one name in two ways."""
    declared = {f"{name}.{queue}": limits for name, cls in classes.items() for queue, limits in limits_of(cls).items()}
    if (found := conflict(declared)) is not None:
        name, limits = found
        raise LimitConflict(name, {queue: str(limit) for queue, limit in limits.items()})
