"""What a broken agent does to the queue it works for: failed attempts, retried, then a dead letter that says what to do."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from agentq_nb import Actor, Queue, Retry, agent_os, agents, create_client, setup
from tests.agents.running import all_gone, new_mark
from tests.agents.test_acp_faults import stub

SILENT = replace(stub(), hidden_error=lambda workspace, session_id: None)

FAULTS = {
    "killed": (stub(), "die", r"ended in the middle of a prompt \(exit code 137\)(.|\n)*about to die"),
    "refused": (stub(), "refuse", r"could not answer.*it is Sunday"),
    "without a word": (SILENT, "count 0", "ended its turn without a word"),
    "never answers": (stub(), "hang", r"handled for more than handler_timeout=1 s"),
    "exits at start": (stub("exit"), "hello", r"ended before it was ready(.|\n)*library that is not there"),
    "not installed": (agents.acp("stub", ["no-such-agent"]), "hello", "no no-such-agent on the PATH.*Install it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_a_failed_attempt_retried_as_the_queue_says_while_others_work_on(
    fault: str, tmp_path: Path
) -> None:
    agent, prompt, says = FAULTS[fault]
    attempts: list[int] = []
    mark = new_mark()

    class Worker(Actor):
        tasks = Queue(str, retry=Retry(attempts=2, backoff=0), handler_timeout=1 if fault == "never answers" else None)

        async def run(self) -> None:
            vm = self.actors.vm.get_or_create(["a"])
            async for message in self.queue.iter():
                attempts.append(message.attempt)
                session = await vm.create_session("stub", env=mark)
                await vm.send_prompt(session.session_id, message.body)

    class Echo(Actor):
        words = Queue(str, reply=str)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                await message.complete(message.body)

    async def program() -> None:
        use = {"worker": Worker, "echo": Echo, "vm": agent_os(agents=[agent])}
        async with setup(use=use, store=tmp_path / "nb.agentq.duckdb"):
            client = create_client()
            worker, echo = client.worker.get_or_create(["a"]), client.echo.get_or_create(["a"])
            waiting = asyncio.create_task((await worker.send("tasks", prompt)).result(timeout=120))
            answers = 0
            while not waiting.done():
                assert (await echo.send("words", "hello", wait=True, timeout=60)).response == "hello"
                answers += 1
            result = await waiting
            assert result.status == "failed"
            assert answers > 0
            assert re.search(says, str(result.error)), result.error

    asyncio.run(program())
    assert attempts == [1, 2]
    assert all_gone(mark)
