"""``registry.limits``: the limits of a host's queues, whether their declarations agree, their use, and changing them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.history import Moment, moment
from agentq_nb._brokers.statuses import LimitStatus
from agentq_nb._core.result_table import Table
from agentq_nb._core.suggestions import did_you_mean
from agentq_nb._core.threads import in_long_thread
from agentq_nb._host.host import Host
from agentq_nb._policies.limits import conflict
from agentq_nb.errors import LimitConflict, LimitUnknown, NoHost

_PATIENCE = 5.0
"""Seconds to wait for a host in another thread that is busy."""

_PAUSES = """
select began_at, ended_at, seconds, cause, reason, actor_id, queue, limit_name
from pauses
where (
    $name::varchar is null or $name in (limit_name, actor_id || ' ' || queue)
    or (split_part($name, '/', 1) || ' ' || split_part($name, ' ', 2)) = any(shared_by)
)
and ($since::double precision is null or ended_at is null or extract(epoch from ended_at) >= $since)
order by began_at
"""


def check_limits(classes: Mapping[str, type[Actor]]) -> None:
    """Raise LimitConflict where two queues of these classes declare a limit of one name in two ways."""
    declared = {
        f"{name}.{queue}": limits for name, cls in classes.items() for queue, limits in cls.declared.limits.items()
    }
    if (found := conflict(declared)) is not None:
        name, limits = found
        raise LimitConflict(name, {queue: str(limit) for queue, limit in limits.items()})


class RegistryLimits(Mapping[str, LimitStatus]):
    """The limits of a registry's host, by name. A limit of a single queue is named by that queue: ``"worker/main tasks"``.

        registry.limits                                     # a table: the use of each, and when the next message starts
        registry.limits["anthropic"].used
        await registry.limits.change("anthropic", count=20)
        await registry.limits.pauses(since=timedelta(hours=12))   # what held queues up last night, and for how long

    Every access reads the present state. Raises NoHost if no host runs.
    """

    def __init__(self, host: Callable[[], Host], sql: Callable[[str, Mapping[str, Any]], Awaitable[Table]]) -> None:
        self._host = host
        self._sql = sql

    def status(self) -> Sequence[LimitStatus]:
        """Return every limit with its present use; of queues that hosts share, as it was a moment ago."""
        host = self._host()
        if host.portal.inside or not host.portal.apart:
            return host.broker.limits.status()
        return host.portal.submit(_status, host).result(_PATIENCE)

    async def change(self, name: str, *, count: int | None = None, per: float | None = None) -> LimitStatus:
        """Change a limit at once, for every queue that shares it; durable on return.

        The change survives restarts. It lasts until :meth:`reset`, or until the declaration of the limit changes.

        :param count: how many starts in ``per`` seconds, or how many messages at once; None: no change.
        :param per: seconds; None: no change. Starts before the change count in the new window.

        Raises ``queue.limit_unknown``, and ``actor.validation_error`` for values out of range.
        """
        host = self._host()
        return await host.enter(host.broker.limits.change, name, count, per)

    async def reset(self, name: str) -> LimitStatus:
        """Restore the declared limit; durable on return. Raises ``queue.limit_unknown``."""
        host = self._host()
        return await host.enter(host.broker.limits.reset, name)

    async def resume(self, name: str) -> bool:
        """End the pause because of a provider's limit, for every queue that shares it; durable on return.

        Returns False when it was not paused. Raises ``queue.limit_unknown``.
        """
        host = self._host()
        return await host.enter(host.broker.limits.resume, name)

    async def pauses(self, name: str | None = None, since: Moment | None = None) -> Any:
        """Return what held queues up and for how long as a DataFrame, oldest first, also of before a restart.

        Pauses by hand are in it, and those because of a provider's limit with the reason; pauses in a row, without a
        message that succeeded between them, are one. It is what the SQL view ``pauses`` has.

        :param name: a limit, like ``"anthropic"``, or a queue, like ``"worker/main tasks"``; None: all.
        :param since: only those that had not ended by then: a datetime, seconds since 1970, or a timedelta (how long ago).

        Returns a :class:`Table` where neither pandas nor polars is installed. Times are UTC; those in force have no end.
        """
        return await in_long_thread((await self.pauses_table(name, since)).frame)

    async def pauses_table(self, name: str | None = None, since: Moment | None = None) -> Table:
        """Return what :meth:`pauses` does as a table."""
        return await self._sql(_PAUSES, {"name": name, "since": None if since is None else moment("since", since)})

    async def find(self, name: str) -> LimitStatus:
        """Return one limit with its use. Raises ``queue.limit_unknown``."""
        host = self._host()
        known = {status.name: status for status in await host.enter(_status, host)}
        if name not in known:
            raise LimitUnknown(name, sorted(known))
        return known[name]

    def __getitem__(self, name: str) -> LimitStatus:
        known = {status.name: status for status in self.status()}
        if name not in known:
            raise KeyError(
                f"There is no limit {name!r}.{did_you_mean(name, list(known))} There are: {', '.join(known)}."
            )
        return known[name]

    def __iter__(self) -> Iterator[str]:
        return iter([status.name for status in self.status()])

    def __len__(self) -> int:
        return len(self.status())

    def __repr__(self) -> str:
        try:
            return f"<limits {', '.join(self) or 'none'}>"
        except NoHost:
            return "<limits of a host that does not run>"


async def _status(host: Host) -> Sequence[LimitStatus]:
    return await host.broker.limits.look()
