"""The real Pi, Claude Code and Codex, against a model on loopback: program 1, a whole session, and what they hide."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Queue, Retry, agent_os, agents, create_client, setup
from agentq_nb.agent_os import isolation
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.errors import PromptFailed
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.running import marked, new_mark
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import missing, need

KEY = "sk-ant-not-a-real-key"
AGENTS = [agents.pi, agents.claude, agents.codex]


class Task(BaseModel):
    prompt: str


class ReviewRequest(BaseModel):
    file: str


class Review(BaseModel):
    summary: str


def need_agent(agent: AcpAgent) -> None:
    """Go on only where this agent is installed."""
    check = agent.check()
    if not check:
        missing(f"The real {agent.name} cannot be driven here: {' '.join(check.missing)}")


async def configure(vm: Any, model: FakeModel) -> None:
    """Where the agents find their model, in their own configuration files."""
    await vm.write_file(".pi/agent/models.json", json.dumps({"providers": {"anthropic": {"baseUrl": model.url}}}))
    chosen = {"defaultProvider": "anthropic", "defaultModel": "claude-sonnet-4-5", "retry": {"enabled": False}}
    await vm.write_file(".pi/agent/settings.json", json.dumps(chosen))
    await vm.write_file(".claude/settings.json", json.dumps({"env": {"ANTHROPIC_BASE_URL": model.url}}))
    await vm.write_file(
        ".codex/config.toml",
        f"""
        model = "gpt-5"
        model_provider = "local"
        check_for_update_on_startup = false
        [analytics]
        enabled = false
        [model_providers.local]
        name = "local"
        base_url = "{model.url}/v1"
        env_key = "OPENAI_API_KEY"
        wire_api = "responses"
        request_max_retries = 0
        stream_max_retries = 0
        supports_websockets = false
        """,
    )


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock", "none"])
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_a_real_agent_from_start_to_end(
    agent: AcpAgent, kind: isolation.IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_agent(agent)
    need(kind)
    if kind == "landlock":
        monkeypatch.setitem(isolation._tried, "bubblewrap", "not in this test")
    mark = new_mark()
    keys = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY}

    async def program(model: FakeModel) -> None:
        mode = "off" if kind == "none" else "required"
        async with Machine(agent_os(agents=[agent], isolation=mode), tmp_path) as vm:
            assert (await vm.isolation()).kind == kind
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=keys | mark)
            assert marked(mark)
            first = await vm.send_prompt(
                session.session_id, "@write hello.txt hello\n@run echo $((40 + 2)) > ran.txt\n@say both are there"
            )
            assert first.text.endswith("both are there")
            assert first.stop_reason == "end_turn"
            assert len(first.tool_calls) == 2
            assert (await vm.read_file("hello.txt")).decode().strip() == "hello"
            assert (await vm.read_file("ran.txt")).decode() == "42\n"
            assert (await vm.send_prompt(session.session_id, "@say the second")).text.endswith("the second")

            begun = vm.heard("text", "begin")
            words = " ".join(str(number) for number in range(100))
            prompt = asyncio.create_task(
                vm.send_prompt(session.session_id, f"@slow 0.3\n@say begin {words} at_the_end")
            )
            await begun.wait()
            assert await vm.cancel_prompt(session.session_id)
            result = await prompt
            assert result.stop_reason == "cancelled"
            assert "at_the_end" not in result.text
            assert (await vm.send_prompt(session.session_id, "@say still alive")).text.endswith("still alive")
            # It did not have to be started again for that.
            assert not any("anew" in (event.text or "") for event in vm.events)
            await vm.close_session(session.session_id)
            assert marked(mark) == []
        assert any(KEY in key for key in model.keys)

    with serving() as model:
        asyncio.run(program(model))
    for path in tmp_path.glob("nb.agentq.duckdb*"):
        assert KEY.encode() not in path.read_bytes(), path


def test_program_1_with_the_real_pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_agent(agents.pi)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)

    class TaskRunner(Actor):
        tasks = Queue(Task)

        async def run(self):
            vm = self.actors.vm.get_or_create(["task-agent"])
            async for message in self.queue.iter():  # one task at a time
                session = await vm.create_session("pi", env={"ANTHROPIC_API_KEY": os.environ["ANTHROPIC_API_KEY"]})
                await vm.send_prompt(session.session_id, message.body.prompt)
                await vm.close_session(session.session_id)

    async def program(model: FakeModel) -> None:
        registry = setup(
            use={"task_runner": TaskRunner, "vm": agent_os(agents=[agents.pi])}, store=tmp_path / "nb.agentq.duckdb"
        )
        async with registry:
            vm = create_client().vm.get_or_create(["task-agent"])
            await configure(vm, model)
            runner = create_client().task_runner.get_or_create(["main"])
            for task in ("Review PR #123", "Fix the flaky test in auth.test.ts", "Update the README"):
                last = await runner.send("tasks", {"prompt": f"{task}\n@run echo '{task}' >> tasks.txt\n@say did it"})
            assert (await last.result(timeout=60)).status == "completed"
            assert (await vm.read_file("tasks.txt")).decode().splitlines() == [
                "Review PR #123",
                "Fix the flaky test in auth.test.ts",
                "Update the README",
            ]
            sessions = await vm.list_sessions(closed=True)
            assert [session.closed_reason for session in sessions] == ["closed"] * 3
            for session in sessions:
                events = await vm.session_events(session.session_id)
                assert events[0].type == "prompt"
                assert "".join(event.text or "" for event in events if event.type == "text").endswith("did it")

    with serving() as model:
        asyncio.run(program(model))
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_program_2_with_the_real_pi(tmp_path: Path) -> None:
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
        use = {"reviewer": Reviewer, "vm": agent_os(agents=[agents.pi])}
        async with setup(use=use, store=tmp_path / "nb.agentq.duckdb"):
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


IN_ITS_WORDS = {("claude", 401): "Authentication required", ("codex", 500): "experiencing high demand"}
"""What an agent says instead of the number."""


@pytest.mark.parametrize("status", [401, 429, 500])
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_an_error_of_the_model_fails_the_prompt_even_where_the_agent_hides_it(
    agent: AcpAgent, status: int, tmp_path: Path
) -> None:
    need_agent(agent)

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agent]), tmp_path) as vm:
            await configure(vm, model)
            env = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY, "CLAUDE_CODE_MAX_RETRIES": "0"}
            session = await vm.create_session(agent.name, env=env, public_env=["CLAUDE_CODE_MAX_RETRIES"])
            says = IN_ITS_WORDS.get((agent.name, status), str(status))
            with pytest.raises(PromptFailed, match=rf"Agent '{agent.name}' .*{says}.*Check its key"):
                await vm.send_prompt(session.session_id, f"@run true\n@status {status}")
            assert (await vm.send_prompt(session.session_id, "@say well again")).text.endswith("well again")

    with serving() as model:
        asyncio.run(program(model))


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
        use = {"task_runner": TaskRunner, "vm": agent_os(agents=[agents.pi])}
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
        async with Machine(agent_os(agents=[agents.claude], permissions="deny"), tmp_path) as vm:
            await configure(vm, model)
            session = await vm.create_session("claude", env={"ANTHROPIC_API_KEY": KEY})
            await vm.send_prompt(session.session_id, "@write hello.txt hello\n@say I was told no")
            assert not await vm.exists("hello.txt")
            events = await vm.session_events(session.session_id)
            answers = [event.data for event in events if event.type == "permission_answer"]
            assert {(answer["answer"], answer["by"]) for answer in answers} == {("deny", "setting")}

    with serving() as model:
        asyncio.run(program(model))
