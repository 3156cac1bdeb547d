"""Sends with an idempotency key: the same key and body are one message, and everyone who waits gets its reply."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agentq_nb import Registry, create_client
from tests.unit.gateway.raw_client import Reply, ask

pytestmark = pytest.mark.anyio

PATH = "/gateway/taskRunner/queue/{}?rvt-method=getOrCreate&rvt-key=main"


async def send(url: str, queue: str, body: Any, wait: bool = False, **headers: Any) -> Reply:
    return await ask(url, "POST", PATH.format(queue), {"body": body, "wait": wait}, **headers)


def by_parameter(value: Any) -> dict[str, Any]:
    return {"x_rivet_conn_params": json.dumps(value)}


@pytest.mark.parametrize("headers", [{"idempotency_key": "one"}, by_parameter({"idempotencyKey": "one", "name": "x"})])
async def test_the_same_key_and_body_are_one_message(url: str, registry: Registry, headers: dict[str, Any]) -> None:
    for _ in range(3):
        assert (await send(url, "small", 1, **headers)).status == 200
    assert len(await registry.messages(queue="small")) == 1
    assert (await send(url, "small", 2, **headers)).code == "queue.idempotency_conflict"


async def test_all_who_wait_for_a_message_get_its_reply_and_so_do_later_ones(url: str, registry: Registry) -> None:
    keyed = by_parameter({"idempotencyKey": "asked"})
    waiting = [asyncio.create_task(send(url, "small", "x", True, **keyed)) for _ in range(3)]
    handle = create_client().task_runner.get_or_create("main")
    async with asyncio.timeout(20):
        while not len(await registry.messages(queue="small")):  # noqa: ASYNC110  # the host tells of no such event
            await asyncio.sleep(0.01)
    assert await handle.answer_small("done")
    for reply in [*await asyncio.gather(*waiting), await send(url, "small", "x", True, **keyed)]:
        assert reply.json == {"status": "completed", "response": "done"}
    assert len(await registry.messages(queue="small")) == 1


@pytest.mark.parametrize("parameters", [None, [], {}, {"idempotencyKey": None}, {"other": {"idempotencyKey": "x"}}])
async def test_other_parameters_of_connections_are_let_pass(url: str, registry: Registry, parameters: Any) -> None:
    assert (await send(url, "tasks", 1, **by_parameter(parameters))).status == 200
    assert (await send(url, "tasks", 1, x_rivet_conn_params="{")).status == 200
    assert (await send(url, "tasks", 1, x_rivet_conn_params="[" * 30_000)).status == 200
    assert len(await registry.messages(queue="tasks")) == 3


@pytest.mark.parametrize("key", [1, True, ["x"], {}])
async def test_a_key_that_is_no_text_is_refused_and_nothing_is_sent(url: str, registry: Registry, key: Any) -> None:
    assert (await send(url, "tasks", 1, **by_parameter({"idempotencyKey": key}))).code == "gateway.bad_request"
    assert len(await registry.messages(queue="tasks")) == 0
