"""Programs whose queues are on PostgreSQL: the address is the only change, and two of them share the work."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Message, Queue, action, create_client, setup
from agentq_nb.errors import Unavailable, ValidationFailed

pytestmark = pytest.mark.anyio


class Task(BaseModel):
    prompt: str


DONE: list[str] = []
"""What task runners have done."""


class TaskRunner(Actor):
    tasks = Queue(Task)

    async def run(self) -> None:
        async for message in self.tasks.iter():
            DONE.append(message.body.prompt)


class Reviewer(Actor):
    review = Queue(Task, reply=str)

    async def run(self) -> None:
        async for message in self.review.iter(completable=True):
            await message.complete(f"{message.body.prompt}: fine")


class Counter(Actor):
    numbers = Queue(int, reply=int)
    total = 0

    @numbers.handler
    async def add(self, number: int) -> int:
        return number + 1

    @action
    async def push(self, number: int) -> None:
        await self.numbers.push(number)


async def test_work_is_serialised_and_replies_come_back(store: str) -> None:
    DONE.clear()
    async with setup(use={"task_runner": TaskRunner, "reviewer": Reviewer}, store=store) as registry:
        client = create_client()
        runner = client.task_runner.get_or_create(["main"])
        for prompt in ("Review PR #123", "Fix the flaky test", "Update the README"):
            await runner.send("tasks", {"prompt": prompt})
        reviewer = client.reviewer.get_or_create(["main"])
        result = await reviewer.send("review", {"prompt": "auth.ts"}, wait=True, timeout=30)
        assert (result.status, result.response) == ("completed", "auth.ts: fine")
        last = await runner.send("tasks", {"prompt": "last"}, wait=True, timeout=30)
        assert last.status == "completed"
        assert len(await registry.results(status="completed")) == 5
    assert DONE == ["Review PR #123", "Fix the flaky test", "Update the README", "last"]


class Editor(Actor):
    reports = Queue(str, reply=str)

    @reports.handler
    async def write(self, title: str, message: Message[str, str]) -> str:
        return f"{title}: {', '.join(str(one.response) for one in message.after)}"


async def test_a_message_waits_for_those_of_other_actors_and_its_handler_gets_their_results(store: str) -> None:
    async with setup(use={"reviewer": Reviewer, "editor": Editor}, store=store):
        client = create_client()
        reviews = [
            await client.reviewer.get_or_create(name).send("review", {"prompt": f"{name}.ts"})
            for name in ("auth", "api")
        ]
        report = await client.editor.get_or_create("main").send(
            "reports", "Today", after=reviews, wait=True, timeout=30
        )
    assert (report.status, report.response) == ("completed", "Today: auth.ts: fine, api.ts: fine")


async def test_actions_push_messages_and_what_was_sent_is_there_after_a_restart(store: str) -> None:
    async with setup(use={"counter": Counter}, store=store):
        counter = create_client().counter.get_or_create("main")
        await counter.push(1)
        receipt = await counter.send("numbers", 2, delay=0.5)
    async with setup(use={"counter": Counter}, store=store):
        result = await create_client().receipt(receipt.id).result(timeout=30)
        assert (result.status, result.response) == ("completed", 3)


class Teller(Actor):
    questions = Queue(str, reply=int)

    @questions.handler
    async def tell(self, question: str) -> int:
        return os.getpid()


SENDER = """
import asyncio, sys
from agentq_nb import create_client, setup
from tests.unit.host.test_shared_queues import Teller

async def main(store):
    async with setup(use={"teller": Teller}, store=store):
        teller = create_client().teller.get_or_create("main")
        print((await teller.send("questions", "who?", wait=True, timeout=60)).unwrap())

asyncio.run(main(sys.argv[1]))
"""


async def test_one_program_handles_what_another_sends(store: str, tmp_path: Path) -> None:
    """The actor is awake in the first, so the second one leaves it there; its own file is in another folder."""
    other = tmp_path / "other"
    other.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    async with setup(use={"teller": Teller}, store=store):
        teller = create_client().teller.get_or_create("main")
        assert (await teller.send("questions", "who?", wait=True, timeout=30)).response == os.getpid()
        sender = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", SENDER, store],
            cwd=other,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
        )
    assert (sender.stdout, sender.returncode) == (f"{os.getpid()}\n", 0), sender.stderr


class Victim(Actor):
    work = Queue(str, reply=list[int])

    @work.handler
    async def handle(self, body: str, message: Message[str, list[int]]) -> list[int]:
        if "VICTIM" in os.environ:
            print(message.id, flush=True)
            await asyncio.sleep(3600)
        return [os.getpid(), message.attempt]


VICTIM = """
import asyncio, sys
from agentq_nb import create_client, setup
from tests.unit.host.test_shared_queues import Victim

async def main(store):
    async with setup(use={"victim": Victim}, store=store):
        await create_client().victim.get_or_create("main").send("work", "x")
        await asyncio.sleep(3600)

asyncio.run(main(sys.argv[1]))
"""


async def test_the_work_of_a_host_that_was_killed_goes_on_in_another_one(store: str, tmp_path: Path) -> None:
    """Once its lease is over, after 15 to 20 seconds."""
    other = tmp_path / "other"
    other.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "VICTIM": "yes"}
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM, store, cwd=other, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert victim.stdout is not None
    message = (await asyncio.wait_for(victim.stdout.readline(), 60)).decode().strip()
    async with setup(use={"victim": Victim}, store=store):
        victim.kill()
        await victim.wait()
        result = await create_client().receipt(message).result(timeout=60)
        assert result.unwrap() == [os.getpid(), 2]


async def test_the_variable_may_hold_the_address(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTQ_DB", store)
    async with setup(use={"counter": Counter}) as registry:
        assert registry.lifecycle.queues == store
        assert registry.store_path == Path.cwd() / "agentq.duckdb"
        again = setup(use={"counter": Counter})
        assert again is registry
        result = await create_client().counter.get_or_create("a").send("numbers", 1, wait=True, timeout=30)
        assert result.response == 2


async def test_other_queues_are_refused_while_the_host_runs(store: str) -> None:
    async with setup(use={"counter": Counter}, store=store):
        with pytest.raises(ValidationFailed, match="runs with other queues"):
            setup()


async def test_a_server_that_is_not_there_is_said_at_the_start_and_the_file_is_closed_again(
    store: str, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/"):
        await setup(use={"counter": Counter}, store="postgresql://nobody@127.0.0.1:1/none").start()
    async with setup(use={"counter": Counter}, store=store):
        result = await create_client().counter.get_or_create("a").send("numbers", 1, wait=True, timeout=30)
        assert result.response == 2
