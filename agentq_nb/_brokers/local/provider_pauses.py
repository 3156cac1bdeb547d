"""What a provider's limit does: pause the queues that share it, try one message at a time, and end the pause."""

from __future__ import annotations

from collections.abc import Iterable

from agentq_nb._brokers.local import limit_rows
from agentq_nb._brokers.local.limit_rows import own_name
from agentq_nb._brokers.local.limits import Limits
from agentq_nb._brokers.local.live_limits import PauseGroup
from agentq_nb._brokers.local.queues import LiveMessage, QueueState
from agentq_nb._brokers.messages import LimitReached, Outcome
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId
from agentq_nb._policies.pause import Held, ProviderPause, after_limit
from agentq_nb._store import Row


def pause(limits: Limits, clock: Clock, entry: LiveMessage, met: LimitReached) -> list[Row] | None:
    """Pause the queues that share the limit which this message met. None: the pause would be too long.

    Where no queue shares the limit's name with the message's own one, that one is paused too.
    """
    limits.watch(entry.queue_state.actor_queues)
    gated = limits.of(entry.queue_state)
    own = gated.groups[0]
    groups = [own]
    if met.limit is not None:
        named = limits.group(met.limit)
        groups = [named] if named in gated.groups else [named, own]
    taken = limits.taken_at(entry)
    written: list[Row] = []
    for group in groups:
        following = _following(group, clock, met.until, met.reason, taken, met.max_pause)
        if following is None:
            return None
        if following is group.pause:
            continue
        if group.probe == entry.id:
            group.probe = None
        written.append(_begin(limits, clock, group, following, entry.actor))
    return written


def pause_named(
    limits: Limits, clock: Clock, actor: ActorId, names: Iterable[str], until: float | None, reason: str, since: float
) -> list[Row]:
    """Pause the queues that share these limits, because a call which began at ``since`` (monotonic) met one."""
    written: list[Row] = []
    for name in names:
        group = limits.group(name)
        following = _following(group, clock, until, reason, since)
        if following is not None and following is not group.pause:
            written.append(_begin(limits, clock, group, following, actor))
    return written


def answered(limits: Limits, clock: Clock, names: Iterable[str], since: float) -> list[Row]:
    """End pauses whose end was unknown, since a call which began after them was answered; forget those that are over."""
    ended: list[PauseGroup] = []
    for group in (limits.groups[name] for name in names if name in limits.groups):
        if group.pause is None or since < group.began:
            continue
        if group.pause.is_over(clock.time()):
            group.pause = None
        elif group.is_trying(clock.time()):
            ended.append(group)
    end(limits, ended)
    return [limit_rows.resumed(group.name) for group in ended]


def _following(
    group: PauseGroup, clock: Clock, until: float | None, reason: str, since: float, max_pause: float | None = None
) -> ProviderPause | None:
    """Return the pause after a message or call that began at ``since`` met the limit. None: it would be too long."""
    before, now = group.pause, clock.time()
    if before is not None and before.until == until and now < before.until:
        return before  # it was refused because of this pause
    return after_limit(
        before,
        now=now,
        until=until,
        reason=reason,
        max_pause=max_pause,
        late=before is not None and since < group.began and not before.is_over(now),
    )


def _begin(limits: Limits, clock: Clock, group: PauseGroup, following: ProviderPause, actor: ActorId) -> Row:
    group.pause, group.began = following, clock.monotonic()
    group.history.add(following)
    limits.expect_end(group)
    limits.call_callers()
    return limit_rows.paused(group.name, actor, following, limits.queues_of(group.name))


def settled(limits: Limits, clock: Clock, entry: LiveMessage, outcome: Outcome) -> list[Row]:
    """End the pause whose end was unknown, if this message was tried and met no limit; forget one that is over."""
    if outcome == "released":
        return []
    ended: list[PauseGroup] = []
    for group in limits.of(entry.queue_state).groups:
        if group.pause is None:
            continue
        if group.probe == entry.id:
            ended.append(group)
        elif outcome == "completed" and group.pause.is_over(clock.time()) and limits.taken_at(entry) > group.began:
            group.pause = None
    end(limits, ended)
    return [limit_rows.resumed(group.name) for group in ended]


def holding(limits: Limits, clock: Clock, queue_state: QueueState) -> list[PauseGroup]:
    """Return the groups whose pauses hold this queue now."""
    if limits not in queue_state.actor_queues.gates:
        return []
    return [group for group in limits.of(queue_state).groups if is_holding(group, clock)]


def is_holding(group: PauseGroup, clock: Clock) -> bool:
    """Whether the group is paused, or one message at a time is tried."""
    return group.pause is not None and not group.pause.is_over(clock.time())


def end(limits: Limits, groups: list[PauseGroup]) -> None:
    """End the pauses of these groups."""
    for group in groups:
        group.history.end(limits.now())
        group.pause = group.probe = None
        group.stop()
        limits.call(group)


def forget(limits: Limits, queue_state: QueueState) -> list[Row]:
    """End the pause of a queue alone, because its actor is destroyed."""
    own = limits.groups.get(own_name(queue_state.actor_queues.actor, queue_state.name))
    if own is None or own.pause is None:
        return []
    end(limits, [own])
    return [limit_rows.resumed(own.name)]


_NOT_HELD = Held()


def held(limits: Limits, clock: Clock, queue_state: QueueState) -> Held:
    """Return what holds this queue: a provider's pause before a limit."""
    if limits not in queue_state.actor_queues.gates:
        return _NOT_HELD
    if (groups := holding(limits, clock, queue_state)) and (first := groups[-1]).pause is not None:
        until = max(group.pause.until for group in groups if group.pause is not None)
        limit = None if first.name == limits.of(queue_state).groups[0].name else first.name
        return Held(True, until, first.pause.reason, limit)
    now = clock.monotonic()
    for limit in limits.of(queue_state).limits:
        if limit.room(now) <= 0:
            return Held(limit=limit.name, next_start=limits.next_start(limit))
    return _NOT_HELD


def works_until(limits: Limits, clock: Clock, queue_state: QueueState, moment: float) -> bool:
    """Whether pauses and limits let a message of this queue start by ``moment``, in seconds since 1970."""
    now = held(limits, clock, queue_state)
    return not any(time is not None and time > moment for time in (now.paused_until, now.next_start))
