"""``registry.hosts``: the hosts that share the queues; and queries of the file that each of them has for itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agentq_nb._brokers.statuses import HostLease
from agentq_nb._client.status import HostStatus
from agentq_nb._core.result_table import Table
from agentq_nb._core.threads import in_long_thread
from agentq_nb._host.registry_server import ServingRegistry
from agentq_nb._host.shared_queues import host_facts
from agentq_nb._host.start_and_stop import HostLifecycle

_COLUMNS = {
    "host": "VARCHAR",
    "here": "BOOLEAN",
    "machine": "VARCHAR",
    "process": "BIGINT",
    "program": "VARCHAR",
    "version": "VARCHAR",
    "started_at": "TIMESTAMP",
    "lease_until": "TIMESTAMP",
    "running": "BIGINT",
    "actors": "VARCHAR[]",
}


class SharingRegistry(ServingRegistry):
    """The part of a registry that tells what is common to all hosts of its queues from what is this host's own."""

    lifecycle: HostLifecycle

    async def hosts(self) -> Any:
        """Return the hosts that use the same queues as a DataFrame: on PostgreSQL all of them, with a file the only one.

        Each has the machine, process and program, until when it holds its actors unless it is heard of (``lease_until``),
        the actors that are awake in it, and how many messages it is working on. Times are UTC. Raises NoHost, and
        ``host.unavailable``.
        """
        return await in_long_thread((await self.hosts_table()).frame)

    async def hosts_table(self) -> Table:
        """Return what :meth:`hosts` does as a table."""
        return await self.host.enter(self._hosts)

    async def _hosts(self) -> Table:
        shared = self.lifecycle.shared_broker
        if shared is not None:
            return _host_table(await shared.hosts(), shared.session)
        return _only_host(await self.host.status(), self.host.identity, self.lifecycle.facts)

    async def file_sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Table:
        """Run a read-only query over this host's own file, in DuckDB's SQL, wherever the queues are.

            await registry.file_sql("select session_id, text from transcripts where type = 'prompt'")

        Where the queues are in the file, it is the same as :meth:`sql`. Where they are on PostgreSQL, the file has what
        the host writes of itself: sessions, transcripts, and what language models cost.
        """
        return await self.host.enter(self.lifecycle.file_history.sql, query, parameters)


def _host_table(hosts: Sequence[HostLease], here: str) -> Table:
    """Return the hosts in the order in which they started; ``here`` is the id of this process's own."""
    rows = [
        (
            each.host,
            each.host == here,
            *(each.facts.get(name) for name in ("machine", "process", "program", "version")),
            _utc(each.facts.get("started_at")),
            _utc(each.until),
            each.running,
            list(each.actors),
        )
        for each in sorted(hosts, key=lambda each: each.facts.get("started_at", 0.0))
    ]
    return Table(list(_COLUMNS), rows, list(_COLUMNS.values()))


def _only_host(status: HostStatus, host: str, facts: Mapping[str, Any]) -> Table:
    """Return the host of a file, which has no other."""
    said = {**facts, **host_facts(), "started_at": time.time() - status.uptime}
    awake = [actor.actor_id for actor in status.actors if actor.state == "awake"]
    running = sum(queue.running for queue in status.queues)
    return _host_table([HostLease(host, said, float("inf"), awake, running)], host)


def _utc(seconds: float | None) -> datetime | None:
    if seconds is None or seconds == float("inf"):  # the only host of a file has it until it ends
        return None
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
