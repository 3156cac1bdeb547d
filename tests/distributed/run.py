"""Drives one run: starts everything, strikes when the plan says so, waits until all is done, and reads what is there."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests.distributed.cluster import Cluster
from tests.distributed.faults import FAULTS
from tests.distributed.plan import Plan
from tests.distributed.servers import running_servers
from tests.faults.facts import Fact

PATIENCE = 240.0
"""Seconds without any progress after which a run has failed."""


class MessageFound(NamedTuple):
    """A message as the database has it at the end. ``settled`` numbers those of a queue in the order they were settled."""

    id: str
    actor: str
    status: str
    settled: int | None
    number: int
    reply: Any


class Run:
    """Everything that came of one plan."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.facts: list[Fact] = []
        self.wrong: list[str] = []
        """What kept the run from its end."""
        self.messages: list[MessageFound] = []
        self.states: dict[str, list[int]] = {}
        self.seconds = 0.0

    def go(self, programs: Path) -> Run:
        """Do it all. The folder must be empty."""
        began = time.monotonic()
        with (
            running_servers(programs, standby=self.plan.kind == "failover") as servers,
            Cluster(self.plan, self.folder, servers) as cluster,
        ):
            try:
                self._under_load(cluster)
                self.wrong += cluster.stop()
                self._read(servers.current.url)
            finally:
                self.facts = list(cluster.ledger.facts)
                lines = [json.dumps(fact) + "\n" for fact in self.facts]
                (self.folder / "facts.jsonl").write_text("".join(lines))
        self.seconds = time.monotonic() - began
        return self

    def _under_load(self, cluster: Cluster) -> None:
        total = self.plan.size.actors * self.plan.size.messages
        cluster.send()
        for strike in self.plan.strikes:
            self._until(cluster, "sent", int(strike.at * total))
            if self.wrong:
                return
            cluster.ledger.note("strike", kind=self.plan.kind, victim=strike.victim, length=strike.length)
            FAULTS[self.plan.kind](cluster, strike)
            cluster.ledger.note("lifted")
        self._until(cluster, "sent", total)
        self._until(cluster, "all results", 1)
        self._until_settled(cluster)

    def _until(self, cluster: Cluster, fact: str, count: int) -> None:
        """Wait until there are so many facts of a kind. As long as anything happens, it is not too late."""
        known, since = -1, time.monotonic()
        while not self.wrong and cluster.count(fact) < count:
            if (why := cluster.senders_failed()) is not None:
                self.wrong.append(f"the senders failed: {why}")
            if len(cluster.ledger.facts) != known:
                known, since = len(cluster.ledger.facts), time.monotonic()
            elif time.monotonic() > since + PATIENCE:
                self.wrong.append(f"only {cluster.count(fact)} of {count} '{fact}', and nothing happens any more")
            time.sleep(0.02)

    def _until_settled(self, cluster: Cluster) -> None:
        end = time.monotonic() + PATIENCE
        while not self.wrong:
            with psycopg.connect(cluster.servers.current.url) as connection:
                live = connection.execute("select sum(live) from agentq.queues").fetchone()
            if live == (0,):
                return
            if time.monotonic() > end:
                self.wrong.append(f"{live} messages are never settled")
            time.sleep(0.2)

    def _read(self, url: str) -> None:
        with psycopg.connect(url) as connection:
            rows = connection.execute(
                "select id, actor, status, settled, body, reply from agentq.messages order by settled"
            )
            self.messages = [
                MessageFound(
                    *(message, actor, status, settled),
                    number=json.loads(body)["number"],
                    reply=None if reply is None else json.loads(reply),
                )
                for message, actor, status, settled, body, reply in rows
            ]
            states = connection.execute("select actor, state from agentq.actors where state is not null")
            self.states = {actor: json.loads(state)["done"] for actor, state in states}
