"""What hosts and users do with limits: declare them, look at them, change them, and end pauses by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentq_nb._brokers.local import limit_rows, provider_pauses
from agentq_nb._brokers.local.call_starts import CallStarts
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.limit_rows import Change, StoredStarts
from agentq_nb._brokers.local.limits import RESERVE
from agentq_nb._brokers.local.live_limits import LiveLimit, PauseGroup
from agentq_nb._brokers.statuses import LimitStatus
from agentq_nb._core.threads import in_thread
from agentq_nb._policies.limits import Limit, changed
from agentq_nb.errors import LimitUnknown, ValidationFailed


class LocalLimits:
    """See :class:`agentq_nb._brokers.base.BrokerLimits`."""

    def __init__(self, commit_log: CommitLog) -> None:
        self._commit_log = commit_log
        self.calls = CallStarts(commit_log)

    @property
    def resumed_at(self) -> float:
        return self._commit_log.live_messages.limits.resumed_at

    async def declare(self, name: str, limits: Mapping[str, Sequence[Limit]]) -> None:
        self._commit_log.check()
        live = self._commit_log.live_messages.limits
        if any(limits.values()) or live.declares(name):
            stored = await self._stored([limit for some in limits.values() for limit in some])
            live.declare(name, limits, stored)

    async def look(self) -> Sequence[LimitStatus]:
        return self.status()

    def status(self) -> Sequence[LimitStatus]:
        live, clock = self._commit_log.live_messages.limits, self._commit_log.clock
        groups = {group.name: group for group in live.groups.values() if provider_pauses.is_holding(group, clock)}
        return [self._status(limit, groups.get(limit.name)) for limit in live.limits.values()]

    def _status(self, limit: LiveLimit, group: PauseGroup | None) -> LimitStatus:
        used = 0
        if limit.window is not None:
            used = limit.window.used(self._commit_log.clock.monotonic())
        elif limit.places is not None:
            used = limit.places.used
        pause = None if group is None else group.pause
        return LimitStatus(
            name=limit.name,
            count=limit.count,
            per=limit.per,
            declared=limit.declared,
            used=used,
            next_start=self._commit_log.live_messages.limits.next_start(limit),
            waiting=len(limit.waiting),
            paused_until=None if pause is None else pause.until,
            reason=None if pause is None else pause.reason,
        )

    async def change(self, name: str, count: int | None, per: float | None) -> LimitStatus:
        limit = self._find(name)
        count = limit.count if count is None else count
        try:
            now = changed(limit.declared, count, limit.per if per is None else per)
        except ValueError as error:
            raise ValidationFailed(f"Limit '{name}' stays {limit.declared}: {error}") from None
        change = Change(now.count, getattr(now, "per", None), str(limit.declared))
        return await self._apply(limit, change)

    async def reset(self, name: str) -> LimitStatus:
        return await self._apply(self._find(name), None)

    async def _apply(self, limit: LiveLimit, change: Change | None) -> LimitStatus:
        commit_log = self._commit_log
        commit_log.check()
        row = limit_rows.reset(limit.name) if change is None else limit_rows.changed(limit.name, change)
        await commit_log.write([row])
        longer = [] if change is None or change.per is None else [changed(limit.declared, change.count, change.per)]
        commit_log.live_messages.limits.change(limit, change, await self._stored(longer))
        return next(status for status in self.status() if status.name == limit.name)

    async def resume(self, name: str) -> bool:
        live, clock = self._commit_log.live_messages.limits, self._commit_log.clock
        self._find(name)
        group = live.groups.get(name)
        if group is None or not provider_pauses.is_holding(group, clock):
            return False
        live.resumed_at = clock.monotonic()
        await self._commit_log.write([limit_rows.resumed(name)], provider_pauses.end, live, [group])
        return True

    def _find(self, name: str) -> LiveLimit:
        known = self._commit_log.live_messages.limits.limits
        if name not in known:
            raise LimitUnknown(name, sorted(known))
        return known[name]

    async def _stored(self, limits: Sequence[Limit]) -> StoredStarts:
        """Read the starts that may count in these windows, or in those that are there already."""
        commit_log, log = self._commit_log, self._commit_log.log
        live, read_at = commit_log.live_messages.limits, commit_log.clock.monotonic()
        longest = live.longest([*limits, *live.all_declared()])
        if not longest:
            return StoredStarts({}, read_at)
        since = commit_log.clock.time() - longest - RESERVE
        return await in_thread(limit_rows.recall_starts, log, since, read_at)
