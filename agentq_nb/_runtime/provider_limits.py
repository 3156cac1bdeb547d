"""Whether an attempt ended because a provider's limit is reached, and what follows from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from agentq_nb._actor.message import brief, describe
from agentq_nb._brokers.values import LimitReached, Settlement
from agentq_nb.errors import RateLimited


def limit_reached(error: BaseException | Mapping[str, Any]) -> RateLimited | None:
    """Return the error, or the one in its groups, that says that a provider's limit is reached.

    An error that was raised because of such a one is another error: whoever raised it decided so.
    """
    if isinstance(error, Mapping):
        return None
    return next((one for one in _grouped(error) if isinstance(one, RateLimited)), None)


def _grouped(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _grouped(one)
    else:
        yield error


def limited(otherwise: Settlement, error: RateLimited, now: float, max_pause: float | None) -> Settlement:
    """Settle an attempt that met a provider's limit: uncounted, and with a pause. ``now`` is in seconds since 1970.

    ``otherwise`` is how it settles if the pause would be longer than ``max_pause`` seconds.
    """
    described = describe(error, with_traceback=False)
    reached = LimitReached(error.limit, error.ends_at(now), brief(described) or "", max_pause, otherwise)
    return Settlement(otherwise.delivery, "limited", front=True, limited=reached)
