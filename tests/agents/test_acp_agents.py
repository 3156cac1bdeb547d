"""The real Pi, Claude Code and Codex, against a model on loopback: a whole session, a program, and what they hide."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Queue, Retry, agent_os, agents, create_client, setup
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.sandbox import isolation
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import (
    KEY,
    KEYS,
    configure,
    need_agent,
    show_an_error_of_the_model,
    show_from_start_to_end,
)
from tests.unit.agent_os.machine import Machine

AGENTS = [agents.pi, agents.claude, agents.codex]


class Task(BaseModel):
    prompt: str


class ReviewRequest(BaseModel):
    file: str


class Review(BaseModel):
    summary: str


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock", "none"])
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_a_real_agent_from_start_to_end(
    agent: AcpAgent, kind: isolation.IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_agent(agent)
    show_from_start_to_end(agent, kind, tmp_path, monkeypatch)


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_what_a_real_agent_says_is_in_its_own_turn_however_fast_the_next_follows(
    agent: AcpAgent, tmp_path: Path
) -> None:
    need_agent(agent)

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agent], hosts=[model.url]), tmp_path) as vm:
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=KEYS)
            said = [f"word{number} " * 30 + f"end{number}" for number in range(5)]
            answers = [(await vm.send_prompt(session.session_id, f"@say {words}")).text for words in said]
            # Codex begins with a remark about a model that it does not know.
            assert [answer[answer.index("word") :] for answer in answers] == said
            events = await vm.session_events(session.session_id)
            assert not any(event.data.get("late") for event in events)
            turns = "".join(event.text or "" if event.type == "text" else f"<{event.type}>" for event in events)
            assert [turn.partition("<result>")[0] for turn in turns.split("<prompt>")[1:]] == answers

    with serving() as model:
        asyncio.run(program(model))


@pytest.mark.parametrize("background", [False, True], ids=["in this loop", "in the background"])
def test_program_2_with_the_real_pi(tmp_path: Path, background: bool) -> None:
    need_agent(agents.pi)

    class Reviewer(Actor):
        review = Queue(ReviewRequest, reply=Review)

        async def run(self):
            vm = self.actors.vm.get_or_create(["reviewer"])
            session = await vm.create_session("pi", env={"ANTHROPIC_API_KEY": KEY})
            async for message in self.queue.iter(completable=True):
                source = (await vm.read_file(message.body.file)).decode()
                await vm.send_prompt(
                    session.session_id, f"Review this code and write a summary to /home/user/review.txt:\n\n{source}"
                )
                summary = (await vm.read_file("/home/user/review.txt")).decode()
                await message.complete(Review(summary=summary))

    async def program(model: FakeModel) -> None:
        use = {"reviewer": Reviewer, "vm": agent_os(agents=[agents.pi], hosts=[model.url])}
        async with setup(use=use, store=tmp_path / "nb.agentq.duckdb", background=background):
            client = create_client()
            vm = client.vm.get_or_create(["reviewer"])
            await configure(vm, model)
            for name in ("auth", "login"):
                await vm.write_file(f"/home/user/src/{name}.ts", f"@write review.txt Looks good: {name}\n")
                result = await client.reviewer.get_or_create(["main"]).send(
                    "review", {"file": f"/home/user/src/{name}.ts"}, wait=True, timeout=120
                )
                assert result.status == "completed"
                assert result.response.summary == f"Looks good: {name}"

    with serving() as model:
        asyncio.run(program(model))


@pytest.mark.parametrize("status", [401, 429, 500])
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_an_error_of_the_model_fails_the_prompt_even_where_the_agent_hides_it(
    agent: AcpAgent, status: int, tmp_path: Path
) -> None:
    need_agent(agent)
    show_an_error_of_the_model(agent, status, tmp_path)


def test_a_failed_prompt_of_pi_is_retried_as_the_queue_says(tmp_path: Path) -> None:
    need_agent(agents.pi)
    attempts: list[int] = []

    class TaskRunner(Actor):
        tasks = Queue(Task, retry=Retry(attempts=2, backoff=0))

        async def run(self):
            vm = self.actors.vm.get_or_create(["task-agent"])
            session = await vm.create_session("pi", env={"ANTHROPIC_API_KEY": KEY})
            async for message in self.queue.iter():
                attempts.append(message.attempt)
                await vm.send_prompt(session.session_id, message.body.prompt)

    async def program(model: FakeModel) -> None:
        use = {"task_runner": TaskRunner, "vm": agent_os(agents=[agents.pi], hosts=[model.url])}
        async with setup(use=use, store=tmp_path / "nb.agentq.duckdb"):
            await configure(create_client().vm.get_or_create(["task-agent"]), model)
            receipt = await create_client().task_runner.get_or_create(["main"]).send("tasks", {"prompt": "@status 401"})
            result = await receipt.result(timeout=60)
            assert result.status == "failed"
            assert "got an error from its language model: 401" in str(result.error)

    with serving() as model:
        asyncio.run(program(model))
    assert attempts == [1, 2]


def test_claude_asks_and_keeps_to_the_answer(tmp_path: Path) -> None:
    need_agent(agents.claude)

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agents.claude], permissions="deny", hosts=[model.url]), tmp_path) as vm:
            await configure(vm, model)
            session = await vm.create_session("claude", env={"ANTHROPIC_API_KEY": KEY})
            await vm.send_prompt(session.session_id, "@write hello.txt hello\n@say I was told no")
            assert not await vm.exists("hello.txt")
            events = await vm.session_events(session.session_id)
            answers = [event.data for event in events if event.type == "permission_answer"]
            assert {(answer["answer"], answer["by"]) for answer in answers} == {("deny", "setting")}

    with serving() as model:
        asyncio.run(program(model))
