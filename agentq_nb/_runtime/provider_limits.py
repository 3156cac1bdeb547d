"""Whether an attempt ended because a provider's limit is reached, and what follows from that."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from agentq_nb._actor.message import brief, describe
from agentq_nb._brokers.messages import LimitReached, Settlement
from agentq_nb._core.clock import machine_zone
from agentq_nb._policies.provider_limits import ProviderLimit, exception_limit
from agentq_nb.errors import AgentqError, RateLimited

_NO_USE_WAITING = (
    "Waiting does not help: add credits at the provider, or raise the limit of spending there, then redeliver it."
)


def limit_reached(error: BaseException | Mapping[str, Any], now: float) -> RateLimited | None:
    """Return what says that a provider's limit is reached: the error, one of its group, or what a client's error means.

    An error that was raised because of a RateLimited is another error: the code that raised it decided so. ``now`` is in
    seconds since 1970.
    """
    if isinstance(error, Mapping):
        return None
    for one in _grouped(error):
        if isinstance(one, RateLimited):
            return one
    limit = _recognised(error, now)
    if limit is None or not limit.pauses:
        return None
    return RateLimited(brief(describe(error, with_traceback=False)) or "", until=limit.resume_at)


def without_credit(error: BaseException | Mapping[str, Any], now: float) -> str | None:
    """Return advice if the provider wants money: another attempt would fail in the same way. None otherwise."""
    if isinstance(error, Mapping):
        return None
    if isinstance(error, AgentqError):
        return "" if error.code == "billing" else None
    limit = _recognised(error, now)
    return _NO_USE_WAITING if limit is not None and not limit.pauses else None


def _recognised(error: BaseException, now: float) -> ProviderLimit | None:
    if isinstance(error, AgentqError):
        return None
    return exception_limit(error, now=datetime.fromtimestamp(now, UTC), tz=machine_zone(os.environ))


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
