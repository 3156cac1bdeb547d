"""Pauses because of providers' limits: of the queue whose message met one, or of all queues that declare it.

A pause whose end is unknown is guessed. After that one message at a time is tried, over all hosts, until one of them does
not meet the limit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from agentq_nb._brokers.messages import Settlement
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.limit_register import own_name
from agentq_nb._brokers.postgres.notable_events import note
from agentq_nb._brokers.postgres.rows import MessageRow, QueueRow
from agentq_nb._core.ids import ActorId
from agentq_nb._policies.pause import PastPause, PauseHistory, ProviderPause, after_limit


class Paused(NamedTuple):
    """A pause that is in force, or over but not yet followed by a success; and when it ``began``.

    :ivar probing: whether a message is being tried.
    """

    pause: ProviderPause
    began: float
    probing: bool = False

    @classmethod
    def read(cls, held: str | None, probing: bool = False) -> Paused | None:
        """Return the pause from what is stored of it."""
        if held is None:
            return None
        stored: dict[str, Any] = json.loads(held)
        began = stored.pop("began")
        return cls(ProviderPause(**stored), began, probing)

    def is_closed(self, now: float) -> bool:
        """Whether no message may start."""
        return not self.pause.is_over(now) and not (self.is_trying(now) and not self.probing)

    def is_trying(self, now: float) -> bool:
        """Whether one message at a time is tried."""
        return self.pause.probes(now)

    def opens_at(self, now: float) -> float | None:
        """Return when the next message may start; None: when the one that is tried has ended."""
        return self.pause.until if now < self.pause.until else None


class Group(NamedTuple):
    """Queues that are paused together: those of a limit with this name, or one queue alone."""

    name: str
    paused: Paused | None
    probe: str | None
    queue: tuple[ActorId, str] | None = None
    """The queue, if it is one alone."""


async def groups_named(tx: Transaction, names: Sequence[str]) -> dict[str, Group]:
    """Return the groups of these limits that are or were paused."""
    rows = await tx.rows(
        "select name, held, probe from agentq.limits where name = any(%(names)s) and held is not null", names=names
    )
    return {name: Group(name, Paused.read(held), probe) for name, held, probe in rows}


async def settle(
    tx: Transaction,
    settlement: Settlement,
    row: MessageRow,
    queue: QueueRow,
    now: float,
    named: dict[str, Group],
    shared: Sequence[str],
) -> tuple[Settlement, QueueRow]:
    """Pause what the message's limit pauses, or end pauses; return how the message then settles.

    A message that met the limit goes back uncounted, unless a pause would last too long. One that was tried and met none
    ends the pause, and so does one that completes after its end.

    :param named: the groups of limits that are paused, which this brings up to date.
    :param shared: the names of the queue's limits.
    """
    name = own_name(queue.actor, queue.queue)
    own = Group(name, Paused.read(queue.held), queue.probe, (queue.actor, queue.queue))
    groups = {name: own, **{other: named[other] for other in shared if other in named}}
    met = settlement.limited
    if met is None:
        for group in _ended(groups.values(), settlement, row, now):
            queue = await _write(tx, group, None, now, queue, named)
        if settlement.outcome == "released":
            tx.announce(*(("limit", group.name) for group in groups.values() if group.probe == row.id))
        return settlement, queue
    paused = [own]
    if met.limit is not None:
        group = named.get(met.limit) or Group(met.limit, None, None)
        paused = [group] if met.limit in shared else [group, own]
    since = now if row.began_at is None else row.began_at
    for group in paused:
        following = next_pause(group.paused, now, met.until, met.reason, since, met.max_pause)
        if following is None:
            return met.otherwise, queue
        if group.paused is None or following is not group.paused.pause:
            queue = await _write(tx, group, following, now, queue, named)
    return settlement._replace(outcome="released"), queue


def _ended(groups: Iterable[Group], settlement: Settlement, row: MessageRow, now: float) -> list[Group]:
    if settlement.outcome == "released":
        return []
    completed, began = settlement.outcome == "completed", row.began_at or 0.0
    return [
        group
        for group in groups
        if (paused := group.paused) is not None
        and (group.probe == row.id or (completed and paused.pause.is_over(now) and began > paused.began))
    ]


def next_pause(
    before: Paused | None, now: float, until: float | None, reason: str, since: float, max_pause: float | None = None
) -> ProviderPause | None:
    """Return the pause after a message or call that began at ``since`` met the limit. None: it would be too long."""
    pause = None if before is None else before.pause
    if pause is not None and pause.until == until and now < pause.until:
        return pause  # it was refused because of this pause
    late = before is not None and since <= before.began and not before.pause.is_over(now)
    return after_limit(pause, now=now, until=until, reason=reason, max_pause=max_pause, late=late)


async def _write(
    tx: Transaction, group: Group, pause: ProviderPause | None, now: float, queue: QueueRow, named: dict[str, Group]
) -> QueueRow:
    await write(tx, group, pause, now)
    held = None if pause is None else stored(pause, now)
    if group.queue is not None:
        return queue._replace(held=held, probe=None)
    named[group.name] = Group(group.name, Paused.read(held), None)
    return queue


async def write(tx: Transaction, group: Group, pause: ProviderPause | None, now: float) -> None:
    """Begin or change the pause of a group, or end it (None). What waits for its end looks again."""
    held, until = (None, None) if pause is None else (stored(pause, now), pause.until)
    if group.queue is None:
        await tx.ask(_HOLD_NAMED, name=group.name, held=held, until=until)
    else:
        await tx.ask(_HOLD, actor=group.queue[0], queue=group.queue[1], held=held, until=until)
        tx.announce(("work", group.queue[0]))
    tx.announce(("limit", group.name))
    if pause is not None:
        await tx.ask(_NOTE, name=group.name, since=pause.since, pause=json.dumps(asdict(pause)))
        if group.paused is None or group.paused.pause.since != pause.since:
            await _note_limit(tx, group, pause)
    elif group.paused is not None and not group.paused.pause.is_over(now):
        await tx.ask(_NOTE_END, name=group.name, since=group.paused.pause.since)


async def _note_limit(tx: Transaction, group: Group, pause: ProviderPause) -> None:
    await note(
        tx,
        "limit.paused",
        "" if group.queue is None else group.queue[0],
        limit=group.name,
        since=str(pause.since),
        until=str(pause.until),
        known=str(pause.known).lower(),
        reason=pause.reason,
    )


def stored(pause: ProviderPause, began: float) -> str:
    """Return what is stored of a pause."""
    return json.dumps({**asdict(pause), "began": began})


_HOLD = """
update agentq.queues
set held = %(held)s, held_until = %(until)s, probe = null
where actor = %(actor)s and queue = %(queue)s
"""

_HOLD_NAMED = """
insert into agentq.limits (name, held, held_until) values (%(name)s, %(held)s, %(until)s)
on conflict (name) do update set held = excluded.held, held_until = excluded.held_until, probe = null
"""

_NOTE = """
insert into agentq.provider_pauses (name, since, pause) values (%(name)s, %(since)s, %(pause)s)
on conflict (name, since) do update set pause = excluded.pause, ended = null
"""

_NOTE_END = "update agentq.provider_pauses set ended = agentq.now() where name = %(name)s and since = %(since)s"


# --- looking at them --------------------------------------------------------------------------------------------------


async def histories(tx: Transaction, names: Sequence[str]) -> Mapping[str, PauseHistory]:
    """Return the latest pauses of limits and single queues, by their names."""
    found: dict[str, PauseHistory] = {}
    for name, pause, ended in await tx.rows(_HISTORY, names=names):
        history = found.setdefault(name, PauseHistory())
        history.add(ProviderPause(**json.loads(pause)))
        if ended is not None:
            history.end(ended)
    return found


_HISTORY = """
select name, pause, ended from (
    select name, since, pause, ended, row_number() over (partition by name order by since desc) as number
    from agentq.provider_pauses where name = any(%(names)s)
) latest
where number <= 10
order by name, since
"""


def past_pauses(
    histories: Mapping[str, PauseHistory], own: str, shared: Sequence[str], now: float
) -> tuple[PastPause, ...]:
    """Return the latest pauses of a queue, oldest first: its own and those of its limits."""
    alone = histories[own].pauses(now) if own in histories else []
    return PauseHistory.joined(alone, *(histories[name].pauses(now, name) for name in shared if name in histories))
