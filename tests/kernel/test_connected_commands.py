"""``%agentq`` commands in a notebook that is connected to the host of another kernel: they run on that host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.driving import Kernel

TOKEN = "a-token-for-tests-only"

ACTORS = """
import asyncio
from typing import Any
from agentq_nb import Actor, Queue, Retry, current_registry

class Worker(Actor):
    tasks = Queue(Any, reply=Any, retry=Retry(attempts=1))

    @tasks.handler
    async def work(self, body: Any) -> Any:
        if body == "bad":
            raise ValueError("it cannot be done")
        if body == "slow":
            await asyncio.sleep(60)
        return {"did": body}
"""


class Notebooks:
    """The kernel of the host, and the one that is connected to it."""

    def __init__(self, host: Kernel, other: Kernel) -> None:
        self.host = host
        self.other = other

    def shown(self, line: str) -> str:
        """Return what a line shows in the connected notebook, which must not fail."""
        ran = self.other.run(line).check()
        return ran.text + ran.stdout

    def error(self, line: str) -> str:
        ran = self.other.run(line)
        assert ran.status == "error"
        return ran.stdout + ran.stderr + (ran.error_value or "")


def connect(host: Kernel, other: Kernel, store: str) -> None:
    """Start a host in one kernel, and connect the other one to it."""
    host.run("%load_ext agentq_nb").check()
    host.run(ACTORS).check()
    host.run(f"%agentq start --store {store}").check()
    other.run("%load_ext agentq_nb").check()
    other.run(f"%agentq connect {store}").check()


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebooks]:
    folder = tmp_path_factory.mktemp("notebooks")
    with Kernel(folder) as host, Kernel(folder) as other:
        connect(host, other, "work.agentq.duckdb")
        yield Notebooks(host, other)


def test_send_and_ask_give_receipts_and_results(notebooks: Notebooks) -> None:
    other = notebooks.other
    other.run("path = {'file': 'a \"b\" {{c}}'}").check()
    other.run("receipt = %agentq send worker/objects tasks --key once {{path}}").check()
    assert other.value("(await receipt).response") == {"did": {"file": 'a "b" {{c}}'}}
    other.run("result = %agentq ask worker/objects tasks plain text").check()
    assert other.value("result.response") == {"did": "plain text"}
    assert "it cannot be done" in notebooks.error("%agentq ask worker/objects tasks bad")


def test_what_the_host_has_is_shown(notebooks: Notebooks) -> None:
    other = notebooks.other
    other.run("asked = %agentq ask worker/shown tasks 1").check()
    message = other.value("asked.message_id")
    assert "worker/shown" in notebooks.shown("%agentq")
    assert "worker" in notebooks.shown("%agentq actors")
    assert message in notebooks.shown("%agentq results worker/shown")
    other.run("message = asked.message_id").check()
    assert '"did": 1' in notebooks.shown("%agentq show {{message}}").replace("'", '"')
    assert "41" in notebooks.shown("%agentq sql select 40 + 1 as \"the sum\", '--x' as other")
    other.run("asked = %agentq ask worker/shown tasks --no-check bad").check()
    assert "it cannot be done" in notebooks.shown("%agentq dead worker/shown")
    for line in ("batches", "limits", "sessions", "vms"):
        notebooks.other.run(f"%agentq {line}").check()
    other.run("status = %agentq status").check()
    assert "worker/shown" in other.value("repr(status)")
    assert " agentq " not in notebooks.shown("%agentq dead worker/shown").replace("%agentq", "")


def test_queues_are_paused_and_resumed_and_dead_letters_put_back(notebooks: Notebooks) -> None:
    other = notebooks.other
    notebooks.shown("%agentq pause worker/queue tasks")
    other.run("waiting = %agentq send worker/queue tasks 2").check()
    assert "paused" in notebooks.host.run("%agentq status").check().text
    assert other.value("await waiting.status()") == "queued"
    notebooks.shown("%agentq resume worker/queue tasks")
    assert other.value("(await waiting.result(60)).response") == {"did": 2}
    other.run("dead = %agentq ask worker/queue tasks --no-check bad").check()
    assert "Put 1 dead letter back" in notebooks.shown("%agentq retry --all worker/queue")
    other.run("slow = %agentq send worker/queue tasks slow").check()
    other.run("slow_id = slow.id").check()
    other.run("%agentq cancel {{slow_id}}").check()
    assert other.value("await slow.status()") == "cancelled"


def test_files_are_written_beside_the_connected_notebook(notebooks: Notebooks, tmp_path: Path) -> None:
    notebooks.other.run(f"import os; os.chdir({str(tmp_path)!r})").check()
    notebooks.shown("%agentq export exported")
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_errors_are_those_of_the_host_as_a_notebook_says_them(notebooks: Notebooks) -> None:
    assert "not" in notebooks.error("%agentq show 00000000000000000000000aa")
    assert "add --all" in notebooks.error("%agentq retry")
    assert "nowhere" in notebooks.error("%agentq pause worker/main nowhere")


@pytest.mark.parametrize("line", ["stop", "dashboard", "alerts off"])
def test_what_makes_no_sense_there_says_so_and_does_nothing(notebooks: Notebooks, line: str) -> None:
    said = notebooks.error(f"%agentq {line}")
    assert "this notebook is a client of the host of" in said
    assert "work.agentq.duckdb" in said
    assert "host.elsewhere" in said
    assert "worker" in notebooks.host.run("%agentq actors").check().text


def test_help_and_doctor_are_about_this_kernel(notebooks: Notebooks) -> None:
    assert "%agentq send" in notebooks.shown("%agentq help")
    notebooks.other.run("%agentq doctor").check()


def test_over_a_url_send_works_and_the_others_say_how_to_connect(notebooks: Notebooks, tmp_path: Path) -> None:
    notebooks.host.run(f"server = await current_registry().serve(port=0, token={TOKEN!r})").check()
    port = notebooks.host.value("server.port")
    with Kernel(tmp_path) as far:
        far.run("%load_ext agentq_nb").check()
        far.run(f"%agentq connect http://127.0.0.1:{port} --token {TOKEN}").check()
        far.run("result = %agentq ask worker/far tasks 3").check()
        assert far.value("result.response") == {"did": 3}
        said = far.run("%agentq status")
        assert "%agentq connect PATH" in said.stdout + said.stderr + (said.error_value or "")


def test_a_host_that_ended_is_said_in_one_line(tmp_path: Path) -> None:
    with Kernel(tmp_path) as host, Kernel(tmp_path) as other:
        connect(host, other, "ends.agentq.duckdb")
        host.run("%agentq stop").check()
        said = other.run("%agentq status")
        assert "no host has the file open" in said.stdout + said.stderr + (said.error_value or "")
        host.run("%agentq start --store ends.agentq.duckdb").check()
        assert "worker" in other.run("%agentq actors").check().text
