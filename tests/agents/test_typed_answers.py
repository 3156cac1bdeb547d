"""Answers of a type from agents that are programs: a stub that speaks ACP, and the real ones against a model on loopback."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

import agentq_nb
from agentq_nb import agent_os, agents
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.errors import ReplyInvalid
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEYS, configure, need_agent
from tests.agents.test_acp_faults import machine
from tests.unit.agent_os.machine import Machine

GOOD = '{"summary": "fine", "stars": 5}'
AGAIN = "cannot be used"


class Review(BaseModel):
    summary: str
    stars: int


REVIEW = Review(summary="fine", stars=5)


@pytest.mark.parametrize("isolation", ["auto", "off"])
def test_an_agent_is_told_the_schema_in_a_block_of_its_own(isolation: str, tmp_path: Path) -> None:
    """The stub's answer is the blocks that it got, as JSON."""

    async def program() -> None:
        async with machine(tmp_path, isolation=isolation) as vm:
            session = await vm.create_session("stub")
            result = await vm.send_prompt(session.session_id, "What do you get?\n", reply=list[str])
            assert result.reply[0] == "What do you get?\n"
            assert '{"items": {"type": "string"}, "type": "array"}' in result.reply[-1]
            untyped = await vm.send_prompt(session.session_id, "And now?")
            assert json.loads(untyped.text) == ["And now?"]

    asyncio.run(program())


@pytest.mark.parametrize(
    "answers",
    [
        [GOOD],
        [f"Here it is: {GOOD}. Bye."],
        [f"Here it is:\n```json\n{GOOD}\n```\nBye."],
        ['{"summary": "draft", "stars": 1}\nBetter:\n' + GOOD],
        ['{"summary": "fine", "st', GOOD],
        ["I would rather not.", '{"summary": "fine"}', GOOD],
    ],
    ids=["alone", "in prose", "in a fence", "twice", "cut off", "the third time"],
)
def test_the_answer_of_an_agent_over_acp_is_found(answers: list[str], tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            result = await vm.send_prompt(session.session_id, f"answers {json.dumps(answers)}", reply=Review)
            assert result.reply == REVIEW
            events = await vm.session_events(session.session_id)
            assert [event.text for event in events if event.type == "text"] == answers

    asyncio.run(program())


def test_an_agent_over_acp_that_never_gives_it(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            with pytest.raises(ReplyInvalid) as failed:
                await vm.send_prompt(session.session_id, 'answers ["a", "b", "c", "d"]', reply=Review)
            assert (failed.value.metadata["text"], failed.value.metadata["times"]) == ("c", 3)
            assert (await vm.send_prompt(session.session_id, "count 2")).text == "0 1 "

    asyncio.run(program())


REAL = [agents.claude, agents.pi]


@pytest.mark.parametrize("agent", REAL, ids=lambda agent: agent.name)
def test_a_real_agent_gives_an_answer_of_a_type(agent: AcpAgent, tmp_path: Path) -> None:
    need_agent(agent)

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agent], hosts=[model.url]), tmp_path) as vm:
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=KEYS)
            model.scripts = {AGAIN: f"@say {GOOD}"}
            result = await vm.send_prompt(session.session_id, "@say I looked at it, and it is fine.", reply=Review)
            assert result.reply == REVIEW
            prompts = [event.text for event in await vm.session_events(session.session_id) if event.type == "prompt"]
            assert prompts[0] == "@say I looked at it, and it is fine."
            assert AGAIN in (prompts[1] or "")
            assert len(prompts) == 2
            told = [body for body in model.bodies if "one JSON value that fits the following JSON Schema" in body]
            assert told
            assert '\\"required\\": [\\"summary\\", \\"stars\\"]' in told[-1]

    with serving() as model:
        asyncio.run(program(model))


@pytest.mark.parametrize("agent", REAL, ids=lambda agent: agent.name)
def test_a_batch_of_prompts_to_a_real_agent_has_replies_of_a_type(agent: AcpAgent, tmp_path: Path) -> None:
    need_agent(agent)

    async def program(model: FakeModel) -> None:
        cls = agent_os(agents=[agent], hosts=[model.url])
        registry = agentq_nb.setup(store=tmp_path / "map.agentq.duckdb")
        await registry.start()
        await registry.deploy("map_reviews_vm", cls)
        await configure(agentq_nb.create_client().map_reviews_vm.get_or_create(()), model)
        model.scripts = {AGAIN: f"@say {GOOD}", "never": "@say never"}
        batch = await agentq_nb.map(
            agent,
            [f"@say {GOOD}", "@say nothing yet"],
            name="reviews",
            reply=Review,
            vm=cls,
            env={**KEYS},
            retry=agentq_nb.Retry(attempts=1),
        )
        assert [result.unwrap() for result in await batch.results()] == [REVIEW, REVIEW]
        await registry.stop()

    with serving() as model:
        asyncio.run(program(model))


KILLED = """
import asyncio, os, pathlib, signal, sys
from pydantic import BaseModel
from agentq_nb import Actor, Queue, agent_os, agents, create_client, setup

folder, kills = pathlib.Path(sys.argv[1]), sys.argv[2] == "kill"

class Review(BaseModel):
    summary: str

async def review(session, prompt):
    with open(folder / "ledger", "a") as ledger:
        print("again" if session.history else prompt, file=ledger)
    if not session.history:
        return "not yet"
    if kills:
        os.kill(os.getpid(), signal.SIGKILL)
    return '{"summary": "fine"}'

class Reviewer(Actor):
    tasks = Queue(str, reply=Review)

    @tasks.handler
    async def review(self, text, message):
        with open(folder / "ledger", "a") as ledger:
            print("attempt", message.attempt, file=ledger)
        vm = self.actors.vm.get_or_create("a")
        session = await vm.create_session("one")
        return (await vm.send_prompt(session.session_id, text, reply=Review)).reply

async def main():
    use = {"reviewer": Reviewer, "vm": agent_os(agents=[agents.function(review, name="one")])}
    async with setup(use=use, store=folder / "killed.agentq.duckdb"):
        receipt = await create_client().reviewer.get_or_create("r").send("tasks", "Review it.", idempotency_key="one")
        result = await receipt.result()
        print(result.unwrap().summary)

asyncio.run(main())
"""


def test_a_kill_while_it_is_asked_again_brings_the_message_back(tmp_path: Path) -> None:
    def run(word: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", KILLED, str(tmp_path), word]
        return subprocess.run(words, capture_output=True, text=True, timeout=120)

    killed = run("kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = run("work")
    assert again.stdout == "fine\n", again.stderr
    one = ["Review it.", "again"]
    assert (tmp_path / "ledger").read_text().splitlines() == ["attempt 1", *one, "attempt 2", *one]
