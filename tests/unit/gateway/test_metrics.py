"""/metrics, read by Prometheus' own parser."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agentq_nb import Actor, Queue, RateLimit, Registry, create_client
from tests.unit.gateway.raw_client import TOKEN, ask

pytestmark = pytest.mark.anyio


async def values(url: str) -> dict[str, float]:
    """Every sample, by its name and labels."""
    reply = await ask(url, "GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return {
        sample.name + "".join(f" {label}" for label in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


async def test_queues_are_summed_over_the_actors_of_a_name_and_their_keys_are_not_told(
    url: str, registry: Registry
) -> None:
    client = create_client()
    for key in ("private-a", "private-b"):
        handle = client.task_runner.get_or_create(key)
        await handle.send("small", 1)
        await handle.send("tasks", 1, delay=3600)
        await handle.send("typed", -1, wait=True)
        await handle.send("typed", 1, wait=True)
        await handle.pause("typed")
    found = await values(url)
    assert found["agentq_queue_ready task_runner small"] == 2
    assert found["agentq_queue_delayed task_runner tasks"] == 2
    assert found["agentq_queue_dead task_runner typed"] == 2
    assert found["agentq_queue_handled_total task_runner typed"] == 4
    assert found["agentq_queue_paused task_runner typed"] == 2
    assert found["agentq_queue_running task_runner small"] == 0
    assert found["agentq_queue_oldest_seconds task_runner small"] > 0
    assert found["agentq_uptime_seconds"] > 0
    assert "private" not in str(found)


async def test_limits_batches_and_requests_are_told(url: str, registry: Registry) -> None:
    class Limited(Actor):
        tasks = Queue(int, limits=[RateLimit(5, per=60, name="api")])

        @tasks.handler
        async def work(self, number: int) -> None: ...

    await registry.deploy("limited", Limited)
    batch = await create_client().limited.get_or_create("x").send_many("tasks", [1, 2], name="b")
    await batch.results()
    await ask(url, "GET", "/nothing")
    await ask(url, "GET", "/metrics", token=None)
    found = await values(url)
    assert (found["agentq_limit_used api"], found["agentq_limit_allowed api"]) == (2, 5)
    assert found["agentq_limit_paused api"] == 0
    assert found["agentq_batch_rows completed"] == 2
    assert found["agentq_http_requests_total 404"] == 1
    assert found["agentq_http_requests_total 401"] == 1
    assert (await values(url))["agentq_http_requests_total 200"] == 1


async def test_openmetrics_is_written_for_who_asks_for_it(url: str) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    reply: Any = await ask(url, "GET", "/metrics", accept=accept)
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")


async def test_metrics_need_the_token(url: str) -> None:
    assert (await ask(url, "GET", "/metrics", token=None)).status == 401
    assert TOKEN not in str((await ask(url, "GET", "/metrics")).body)
