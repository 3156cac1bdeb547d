"""VMs in a real host over a real file: the programs of the front page, sleep, restart, and the kernel's death."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Queue, action, agent_os, agents, create_client, setup
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.agent_os.sessions.sessions import forget
from agentq_nb.errors import Aborted, PromptFailed

KEY = "sk-ant-not-a-real-key"


class Task(BaseModel):
    prompt: str


class ReviewRequest(BaseModel):
    file: str


class Review(BaseModel):
    summary: str


async def pi(session: AgentSession, prompt: str):
    """Does what the prompts of these tests ask for, on real files."""
    yield f"I was asked: {prompt.splitlines()[0]}\n"
    earlier = session.read("prompts.txt").decode() if session.workspace.exists("prompts.txt") else ""
    session.write("prompts.txt", earlier + prompt.splitlines()[0] + "\n")
    if "/home/user/review.txt" in prompt:
        source = prompt.partition("\n\n")[2]
        session.write(
            "/home/user/review.txt", f"{len(source.splitlines())} lines, {source.count('function')} functions"
        )
    yield "done"


def test_program_1_serializes_agent_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    seen: list[int] = []

    class TaskRunner(Actor):
        tasks = Queue(Task)

        async def run(self):
            vm = self.actors.vm.get_or_create(["task-agent"])
            async for message in self.queue.iter():  # one task at a time
                session = await vm.create_session("pi", env={"ANTHROPIC_API_KEY": os.environ["ANTHROPIC_API_KEY"]})
                await vm.send_prompt(session.session_id, message.body.prompt)
                await vm.close_session(session.session_id)
                seen.append(message.attempt)

    async def program() -> None:
        registry = setup(
            use={"task_runner": TaskRunner, "vm": agent_os(agents=[agents.function(pi, name="pi")])},
            store=tmp_path / "nb.agentq.duckdb",
        )
        async with registry:
            runner = create_client().task_runner.get_or_create(["main"])
            await runner.send("tasks", {"prompt": "Review PR #123"})
            await runner.send("tasks", {"prompt": "Fix the flaky test in auth.test.ts"})
            last = await runner.send("tasks", {"prompt": "Update the README"})
            assert (await last.result(timeout=30)).status == "completed"
            vm = create_client().vm.get_or_create(["task-agent"])
            assert (await vm.read_file("prompts.txt")).decode().splitlines() == [
                "Review PR #123",
                "Fix the flaky test in auth.test.ts",
                "Update the README",
            ]
            sessions = await vm.list_sessions(closed=True)
            assert [session.closed_reason for session in sessions] == ["closed"] * 3
            assert [len(await vm.session_events(session.session_id)) for session in sessions] == [4] * 3

    asyncio.run(program())
    assert seen == [1, 1, 1]
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_program_2_answers_requests_with_what_the_agent_wrote(tmp_path: Path) -> None:
    class Reviewer(Actor):
        review = Queue(ReviewRequest, reply=Review)

        async def run(self):
            vm = self.actors.vm.get_or_create(["reviewer"])
            session = await vm.create_session("pi", env=...)
            async for message in self.queue.iter(completable=True):
                source = (await vm.read_file(message.body.file)).decode()
                await vm.send_prompt(
                    session.session_id, f"Review this code and write a summary to /home/user/review.txt:\n\n{source}"
                )
                summary = (await vm.read_file("/home/user/review.txt")).decode()
                await message.complete(Review(summary=summary))

    async def program() -> None:
        use = {"reviewer": Reviewer, "vm": agent_os(agents=[agents.function(pi, name="pi")])}
        async with setup(use=use, store=tmp_path / "nb.agentq.duckdb"):
            client = create_client()
            source = "export function login() {}\nexport function logout() {}\n"
            await client.vm.get_or_create(["reviewer"]).write_file("/home/user/src/auth.ts", source)
            result = await client.reviewer.get_or_create(["main"]).send(
                "review", {"file": "/home/user/src/auth.ts"}, wait=True, timeout=120
            )
            assert result.status == "completed"
            assert result.response.summary == "2 lines, 2 functions"
            missing = await client.reviewer.get_or_create(["other"]).send(
                "review", {"file": "no.ts"}, wait=True, timeout=60
            )
            assert missing.status == "failed"
            assert "no such file" in str(missing.error)

    asyncio.run(program())


def test_sessions_are_closed_when_the_run_or_action_that_made_them_ends(tmp_path: Path) -> None:
    class Maker(Actor):
        go = Queue(str)

        @action
        async def make(self, keep: bool) -> str:
            vm = self.actors.vm.get_or_create(["v"])
            session = await vm.create_session("pi", keep=keep)
            assert (await vm.get_session(session.session_id)).status == "open"
            return session.session_id

        async def run(self):
            vm = self.actors.vm.get_or_create(["v"])
            await vm.create_session("pi", keep=False)
            async for _ in self.queue.iter():
                pass

    async def program() -> None:
        use = {"maker": Maker, "vm": agent_os(agents=[agents.function(pi, name="pi")])}
        async with setup(use=use, store=tmp_path / "nb.agentq.duckdb") as registry:
            client = create_client()
            maker, vm = client.maker.get_or_create(["m"]), client.vm.get_or_create(["v"])
            brief, kept = await maker.make(False), await maker.make(True)
            mine = await vm.create_session("pi")
            assert (await vm.get_session(brief)).closed_reason == "the call that created it ended"
            await (await maker.send("go", "x")).result(timeout=10)
            open_now = {session.session_id for session in await vm.list_sessions()}
            assert {kept, mine.session_id} < open_now
            assert len(open_now) == 3

            class Successor(Maker):
                async def run(self):
                    async for _ in self.queue.iter():
                        pass

            await registry.deploy("maker", Successor)  # ends the run, and with it the session it made
            await (await maker.send("go", "y")).result(timeout=10)
            end = time.monotonic() + 20
            while {session.session_id for session in await vm.list_sessions()} != {kept, mine.session_id}:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)

    asyncio.run(program())


async def count(session: AgentSession, prompt: str) -> str:
    return f"turn {len(session.history) + 1}, {len(session.env.get('TOKEN', ''))}"


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.01)


def test_a_vm_sleeps_between_prompts_and_goes_on_but_never_sleeps_under_one(tmp_path: Path) -> None:
    asleep: list[str] = []

    async def program() -> None:
        may_end = asyncio.Event()

        async def slow(session: AgentSession, prompt: str) -> str:
            await may_end.wait()
            return "slow"

        class Sleepy(agent_os(agents=[agents.function(count), agents.function(slow)]), sleep_timeout=0.05):  # type: ignore[misc]
            async def on_sleep(self) -> None:
                asleep.append(self.actor_id)

        async with setup(use={"vm": Sleepy}, store=tmp_path / "nb.agentq.duckdb"):
            vm = create_client().vm.get_or_create(["v"])
            session = await vm.create_session("count", env={"TOKEN": "0123456789"})
            for turn in (1, 2, 3):
                assert (await vm.send_prompt(session.session_id, "?")).text == f"turn {turn}, 10"
                await until(lambda turn=turn: len(asleep) >= turn)
            other = await vm.create_session("slow", keep=True)
            prompting = asyncio.create_task(vm.send_prompt(other.session_id, "?"))
            before = len(asleep)
            await asyncio.sleep(0.3)
            assert len(asleep) == before
            may_end.set()
            assert (await prompting).text == "slow"
            running = asyncio.create_task(vm.exec("sleep 0.3; echo done"))
            before = len(asleep)
            assert (await running).stdout == "done\n"
            assert len(asleep) == before
            await until(lambda: len(asleep) > before)

    asyncio.run(program())


def test_stopping_the_host_ends_prompts_and_processes_and_starting_it_again_goes_on(tmp_path: Path) -> None:
    async def program() -> None:
        begun = asyncio.Event()

        async def work(session: AgentSession, prompt: str) -> str:
            if prompt == "long":
                begun.set()
                await session.exec("touch running; sleep 600; touch ended")
            return f"after {len(session.history)}"

        registry = setup(use={"vm": agent_os(agents=[agents.function(work)])}, store=tmp_path / "nb.agentq.duckdb")
        await registry.start()
        vm = create_client().vm.get_or_create(["v"])
        kept = await vm.create_session("work", keep=True)
        brief = await vm.create_session("work")
        await vm.send_prompt(kept.session_id, "short")
        prompting = asyncio.create_task(vm.send_prompt(kept.session_id, "long"))
        await begun.wait()
        await until(lambda: any(tmp_path.rglob("running")))
        await registry.stop()
        with pytest.raises((Aborted, PromptFailed)):
            await prompting
        await registry.start()
        assert (await vm.send_prompt(kept.session_id, "short")).text == "after 1"
        assert (await vm.send_prompt(brief.session_id, "short")).text == "after 0"
        types = [event.type for event in await vm.session_events(kept.session_id)]
        assert types == ["prompt", "text", "result", "prompt", "result", "prompt", "text", "result"]
        assert not any(tmp_path.rglob("ended"))
        await registry.stop()
        forget(tmp_path / "nb.agentq", "vm/v")

    asyncio.run(program())


KERNEL = """
    import asyncio, sys
    from pathlib import Path
    from agentq_nb import Actor, action, agent_os, agents, create_client, setup

    async def pi(session, prompt):
        yield "before the end "
        await session.exec("echo started > started; sleep 987654; echo never")
        yield "never"

    class Owner(Actor):
        @action
        async def begin(self):
            pass

        async def run(self):
            vm = self.actors.vm.get_or_create(["v"])
            for keep in (True, False):
                session = await vm.create_session("pi", keep=keep, env={"TOKEN": "top-secret-value"})
                print(session.session_id, flush=True)
            await vm.send_prompt(session.session_id, "work with top-secret-value")

    async def main():
        use = {"vm": agent_os(agents=[agents.function(pi)]), "owner": Owner}
        async with setup(use=use, store=sys.argv[1]):
            await create_client().owner.get_or_create("main").begin()
            await asyncio.sleep(1000)

    asyncio.run(main())
"""


def test_a_killed_kernel_leaves_the_transcript_and_no_process(tmp_path: Path) -> None:
    store = tmp_path / "nb.agentq.duckdb"
    kernel = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KERNEL), str(store)], stdout=subprocess.PIPE, text=True
    )
    assert kernel.stdout is not None
    kept, brief = kernel.stdout.readline().strip(), kernel.stdout.readline().strip()
    asyncio.run(until(lambda: any(tmp_path.rglob("started")) or kernel.poll() is not None))
    assert kernel.poll() is None
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()

    def sleeping() -> bool:
        return subprocess.run(["pgrep", "-f", "sleep 987654"], capture_output=True).returncode == 0

    asyncio.run(until(lambda: not sleeping()))

    async def program() -> list[Any]:
        use = {"vm": agent_os(agents=[agents.function(count, name="pi")])}
        async with setup(use=use, store=store) as registry:
            vm = create_client().vm.get_or_create(["v"])
            assert [session.session_id for session in await vm.list_sessions()] == [kept]
            assert "kernel" in (await vm.get_session(brief)).closed_reason
            events = await vm.session_events(brief)
            assert [event.type for event in events] == ["prompt", "text"]
            assert events[0].text == "work with [redacted TOKEN]"
            with pytest.raises(PromptFailed, match="needs TOKEN again"):
                await vm.send_prompt(kept, "go on")
            await vm.resume_session(kept, env={"TOKEN": "top-secret-value"})
            assert (await vm.send_prompt(kept, "go on")).text == "turn 1, 16"
            return (await registry.sql("SELECT kind, data FROM events ORDER BY seq")).rows

    rows = asyncio.run(program())
    assert [row[0] for row in rows if row[0].startswith("session.")].count("session.created") == 2
    assert json.loads(next(row[1] for row in rows if row[0] == "session.created"))["env_names"] == ["TOKEN"]
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"top-secret-value" not in path.read_bytes(), path


def test_events_reach_listeners_as_they_happen(tmp_path: Path) -> None:
    async def program() -> None:
        heard: list[tuple[str, str | None]] = []
        use = {"vm": agent_os(agents=[agents.function(pi)])}
        async with setup(use=use, store=tmp_path / "nb.agentq.duckdb"):
            vm = create_client().vm.get_or_create(["v"])
            vm.on("session_event", lambda event: heard.append((event.type, event.text)))
            session = await vm.create_session("pi")
            await vm.send_prompt(session.session_id, "hello")
            await until(lambda: len(heard) == 4)
        assert heard == [("prompt", "hello"), ("text", "I was asked: hello\n"), ("text", "done"), ("result", None)]

    asyncio.run(program())
