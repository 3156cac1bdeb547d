"""Two kernels: one hosts, and the other is its client, by its file or by a url, also across ``kill -9`` and restarts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.driving import Kernel

TOKEN = "a-token-for-tests-only"

ACTORS = """
import asyncio
from typing import Any
from agentq_nb import Actor, Queue, action, current_registry

class Worker(Actor):
    tasks = Queue(Any, reply=Any)

    @tasks.handler
    async def work(self, body: Any) -> Any:
        if body == "slow":
            await asyncio.sleep(2)
        return {"did": body}

    @action
    async def tell(self, what: str) -> str:
        self.broadcast("told", what)
        return what
"""


class Pair:
    """:ivar way: "file" or "url": how the second kernel reaches the first."""

    def __init__(self, host: Kernel, client: Kernel, way: str) -> None:
        self.host = host
        self.client = client
        self.way = way
        self.port = 0

    def start_host(self) -> None:
        self.host.run("%load_ext agentq_nb").check()
        self.host.run(ACTORS).check()
        self.host.run("%agentq start --store work.agentq.duckdb").check()
        if self.way == "url":
            serve = f"server = await current_registry().serve(port={self.port}, token={TOKEN!r})"
            self.host.run(serve).check()
            self.port = self.host.value("server.port")

    @property
    def connect(self) -> str:
        if self.way == "file":
            return "client = %agentq connect work.agentq.duckdb"
        return f"client = %agentq connect http://127.0.0.1:{self.port} --token {TOKEN}"


@pytest.fixture(params=["file", "url"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    with Kernel(tmp_path) as host, Kernel(tmp_path) as client:
        made = Pair(host, client, request.param)
        made.start_host()
        client.run("%load_ext agentq_nb").check()
        client.run("from agentq_nb import create_client").check()
        yield made


def test_a_second_notebook_connects_and_works_with_the_same_handles(pair: Pair) -> None:
    client = pair.client
    client.run(pair.connect).check()
    client.run('worker = create_client().worker.get_or_create("main")').check()
    client.run("events = []; stop = worker.on('told', events.append)").check()
    assert client.value("await worker.tell('something')") == "something"
    assert client.value("(await worker.send('tasks', 1, wait=True)).response") == {"did": 1}
    client.run("batch = await worker.send_many('tasks', [1, 2], name='two'); await batch").check()
    assert client.value("[each.response['did'] for each in await (await client.batch('two')).results()]") == [1, 2]
    assert client.value("events") == ["something"]
    assert "worker" in client.run("client").check().text


def test_a_wait_goes_on_when_the_hosts_kernel_is_killed_and_started_again(pair: Pair) -> None:
    client = pair.client
    client.run(pair.connect).check()
    client.run('worker = client.worker.get_or_create("main")').check()
    client.run("receipt = await worker.send('tasks', 'slow')").check()
    waiting = client.submit("result = await receipt.result(timeout=120)")
    time.sleep(0.5)
    pair.host.kill()
    pair.host.restart()
    pair.start_host()
    client.wait(waiting, 120).check()
    assert client.value("(result.response, result.attempts)") == [{"did": "slow"}, 2]
    assert client.value("(await worker.send('tasks', 2, wait=True)).response") == {"did": 2}


def test_interrupting_a_cell_ends_its_wait_and_not_the_work(pair: Pair) -> None:
    client = pair.client
    client.run(pair.connect).check()
    client.run("receipt = await client.worker.get_or_create('main').send('tasks', 'slow')").check()
    waiting = client.submit("await receipt")
    time.sleep(0.7)
    client.interrupt()
    assert client.wait(waiting).status == "error"
    assert client.value("(await receipt).response") == {"did": "slow"}


def test_what_cannot_be_reached_is_said_in_one_line(pair: Pair) -> None:
    client = pair.client
    unknown = client.run("%agentq connect http://127.0.0.1:9 --token x")
    assert "http://127.0.0.1:9 cannot be reached" in unknown.stdout + unknown.stderr + (unknown.error_value or "")
    if pair.way == "url":
        wrong = client.run(f"%agentq connect http://127.0.0.1:{pair.port} --token not-the-right-token")
        assert "not the server's token" in wrong.stdout + wrong.stderr + (wrong.error_value or "")
    missing = client.run("%agentq connect none.duckdb")
    assert "There is no file" in missing.stdout + missing.stderr + (missing.error_value or "")
