"""Documents of limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentq_nb._brokers.statuses import LimitStatus, QueueStatus
from agentq_nb._display.document import Cell, Document, duration, moment_text, shows
from agentq_nb._host.registry_limits import RegistryLimits
from agentq_nb._policies.rate_limit import RateLimit
from agentq_nb.errors import NoHost

_DAY = 86_400.0
_MOST_QUEUES = 20
_COLUMNS = ("limit", "count", "per", "in use", "next start", "queues waiting", "paused")


@shows(RegistryLimits)
def _limits(limits: RegistryLimits) -> Document:
    try:
        return table(limits.status())
    except NoHost as error:
        return Document(notes=[error.message])


@shows(LimitStatus)
def _limit(status: LimitStatus) -> Document:
    return table([status])


def table(limits: Sequence[LimitStatus]) -> Document:
    """Return the document of several limits."""
    return Document(
        columns=_COLUMNS,
        rows=[_row(limit) for limit in limits],
        empty="No queue declares limits: Queue(Task, limits=[RateLimit(50, per=60, name='anthropic')])",
    )


def in_short(limit: LimitStatus) -> str:
    """Return a limit and its use in a line: ``3 of 20 (declared 50) per 60 s``."""
    per = f" per {_per(limit)}" if limit.per is not None else " at work"
    paused = f"; {_paused(limit)}" if limit.paused_until is not None else ""
    return f"{limit.used} of {_count(limit)}{per}{paused}"


def earlier_pauses(queues: Iterable[QueueStatus], now: float) -> list[tuple[str, object]]:
    """Return facts about pauses because of providers' limits that ended in the last day, one for each queue."""
    facts: list[tuple[str, object]] = []
    for queue in queues:
        over = [pause for pause in queue.pauses if pause.ended is not None and pause.ended > now - _DAY]
        if over:
            last, total = over[-1], duration(round(sum(pause.seconds(now) for pause in over)))
            times = f"{total}" if len(over) == 1 else f"{len(over)} times, {total} in all, the last time"
            said = f"{queue.actor} {queue.queue}: {times} from {moment_text(last.began)} UTC: {last.reason}"
            facts.append(("was paused", said))
    return facts[:_MOST_QUEUES]


def _row(limit: LimitStatus) -> tuple[object, ...]:
    paused = Cell(_paused(limit), "busy") if limit.paused_until is not None else ""
    return (limit.name, _count(limit), _per(limit), limit.used, _next_start(limit), limit.waiting or "", paused)


def _count(limit: LimitStatus) -> str:
    changed = limit.count != limit.declared.count
    return f"{limit.count} (declared {limit.declared.count})" if changed else str(limit.count)


def _per(limit: LimitStatus) -> str:
    if limit.per is None or not isinstance(limit.declared, RateLimit):
        return ""
    declared = f" (declared {limit.declared.per:g} s)" if limit.per != limit.declared.per else ""
    return f"{limit.per:g} s{declared}"


def _next_start(limit: LimitStatus) -> str:
    if limit.used < limit.count and (limit.next_start is None or not limit.waiting):
        return "at once"
    return "when one ends" if limit.next_start is None else f"{moment_text(limit.next_start)} UTC"


def _paused(limit: LimitStatus) -> str:
    until = "" if limit.paused_until is None else f" until {moment_text(limit.paused_until)} UTC"
    return f"paused{until}: {limit.reason}"
