"""Sessions: their rows in the log, their order, their ends, and what survives sleep and restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agentq_nb import Actor, Queue, action
from agentq_nb.agent_os import SessionEvent, agent_os, agents
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.agent_os.sessions.sessions import Sessions
from agentq_nb.agent_os.sessions.turn import take_turn
from agentq_nb.errors import AgentUnknown, PromptFailed, SessionUnknown, ValidationFailed, WorkspaceError
from tests.unit.agent_os.machine import Machine

SECRET = "sk-ant-0123456789abcdef"


async def echo(session: AgentSession, prompt: str) -> str:
    return f"{len(session.history)}: {prompt}"


ECHO = agents.function(echo, name="echo")


def kinds(events: list[SessionEvent]) -> list[str]:
    return [event.type for event in events]


def test_a_session_from_create_to_close_with_its_transcript(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(agents=[ECHO]), tmp_path) as vm:
            session = await vm.create_session("echo")
            assert (session.agent, session.status, session.keep, session.cwd) == ("echo", "open", True, "/home/user")
            assert await vm.list_sessions() == [session]
            first = await vm.send_prompt(session.session_id, "hello")
            assert (first.text, first.stop_reason, first.usage, first.tool_calls) == ("0: hello", "end_turn", None, ())
            assert (await vm.send_prompt(session.session_id, "again")).text == "1: again"
            await vm.close_session(session.session_id)
            await vm.close_session(session.session_id)
            events = await vm.session_events(session.session_id)
            assert kinds(events) == ["prompt", "text", "result"] * 2
            assert [event.index for event in events] == [1, 2, 3, 4, 5, 6]
            assert [event.text for event in events[:2]] == ["hello", "0: hello"]
            assert await vm.session_events(session.session_id, after=4) == events[4:]
            assert vm.events[0].text == "hello"
            closed = await vm.get_session(session.session_id)
            assert (closed.status, closed.closed_reason) == ("closed", "closed")
            assert await vm.list_sessions() == []
            assert await vm.list_sessions(closed=True) == [closed]
            with pytest.raises(SessionUnknown, match="was closed"):
                await vm.send_prompt(session.session_id, "more")

    asyncio.run(program())


def test_a_prompt_is_on_disk_before_the_agent_gets_it(tmp_path: Path) -> None:
    seen: list[list[dict[str, Any]]] = []

    async def look(session: AgentSession, prompt: str) -> None:
        seen.append(machine.on_disk())

    machine = Machine(agent_os(agents=[agents.function(look)]), tmp_path)

    async def program() -> None:
        async with machine as vm:
            session = await vm.create_session("look")
            await vm.send_prompt(session.session_id, "do it")

    asyncio.run(program())
    assert [row["kind"] for row in seen[0]] == ["session.created", "session.event"]
    assert (seen[0][1]["type"], seen[0][1]["text"], seen[0][1]["index"]) == ("prompt", "do it", 1)


def test_prompts_of_one_session_go_one_at_a_time_and_those_of_others_beside(tmp_path: Path) -> None:
    running: dict[str, int] = {}
    most: dict[str, int] = {"all": 0}

    async def slow(session: AgentSession, prompt: str) -> str:
        running[session.session_id] = running.get(session.session_id, 0) + 1
        most[session.session_id] = max(most.get(session.session_id, 0), running[session.session_id])
        most["all"] = max(most["all"], sum(running.values()))
        await asyncio.sleep(0.01)
        running[session.session_id] -= 1
        return prompt

    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(slow)]), tmp_path) as vm:
            ids = [(await vm.create_session("slow")).session_id for _ in range(2)]
            results = await asyncio.gather(*(vm.send_prompt(ids[n % 2], str(n)) for n in range(12)))
            assert [result.text for result in results] == [str(n) for n in range(12)]
            assert [most[session_id] for session_id in ids] == [1, 1]
            assert most["all"] == 2
            prompts = [event.text for event in await vm.session_events(ids[0]) if event.type == "prompt"]
            assert prompts == ["0", "2", "4", "6", "8", "10"]

    asyncio.run(program())


def test_cancelling_a_prompt_gives_its_sender_a_result_and_leaves_the_session_usable(tmp_path: Path) -> None:
    async def program() -> None:
        begun = asyncio.Event()

        async def forever(session: AgentSession, prompt: str):
            yield "so far"
            begun.set()
            if prompt == "long":
                await asyncio.sleep(600)
            yield " so good"

        async with Machine(agent_os(agents=[agents.function(forever)]), tmp_path) as vm:
            session_id = (await vm.create_session("forever")).session_id
            assert await vm.cancel_prompt(session_id) is False
            sending = asyncio.create_task(vm.send_prompt(session_id, "long"))
            await begun.wait()
            assert (await vm.get_session(session_id)).status == "running"
            assert await vm.cancel_prompt(session_id) is True
            result = await sending
            assert (result.text, result.stop_reason) == ("so far", "cancelled")
            assert (await vm.send_prompt(session_id, "short")).text == "so far so good"
            assert kinds(await vm.session_events(session_id)) == [
                "prompt",
                "text",
                "result",
                "prompt",
                "text",
                "text",
                "result",
            ]

    asyncio.run(program())


def test_a_prompt_can_be_cancelled_as_soon_as_it_is_told_of(tmp_path: Path) -> None:
    async def program() -> None:
        async def forever(session: AgentSession, prompt: str) -> None:
            await asyncio.sleep(600)

        async with Machine(agent_os(agents=[agents.function(forever)]), tmp_path) as vm:
            session_id = (await vm.create_session("forever")).session_id
            told = vm.heard("prompt", "never")
            prompt = asyncio.create_task(vm.send_prompt(session_id, "never"))
            await told.wait()
            assert (await vm.get_session(session_id)).status == "running"
            assert await vm.cancel_prompt(session_id)
            assert (await prompt).stop_reason == "cancelled"
            assert kinds(await vm.session_events(session_id)) == ["prompt", "result"]

    asyncio.run(program())


@pytest.mark.parametrize("swallows", [True, False])
def test_a_cancelled_message_takes_the_prompt_of_its_handler_with_it(tmp_path: Path, swallows: bool) -> None:
    went_on: list[object] = []

    class Runner(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            vm = self.actors.vm.get_or_create(["a"])
            session = await vm.create_session("stubborn", keep=True)
            async for message in self.queue.iter():
                went_on.append(await vm.send_prompt(session.session_id, message.body))

    async def program() -> None:
        begun = asyncio.Event()

        async def stubborn(session: AgentSession, prompt: str) -> str:
            begun.set()
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                if not swallows:
                    raise
            return "as if nothing had happened"

        cls = agent_os(agents=[agents.function(stubborn)])
        async with Machine(cls, tmp_path, runner=Runner) as vm:
            receipt = await vm.actor("runner").send("tasks", "go")
            await begun.wait()
            await receipt.cancel()
            assert (await receipt.result(timeout=20)).status == "cancelled"
            session = (await vm.list_sessions())[0]
            while session.status == "running":
                session = await vm.get_session(session.session_id)
            assert session.status == "open"
            events = await vm.session_events(session.session_id)
            assert (events[-1].type, events[-1].data["stop_reason"]) == ("result", "cancelled")
            assert went_on == []

    asyncio.run(program())


def test_closing_cancels_the_prompt_that_runs_and_refuses_those_that_wait(tmp_path: Path) -> None:
    async def program() -> None:
        begun = asyncio.Event()

        async def forever(session: AgentSession, prompt: str) -> None:
            begun.set()
            await asyncio.sleep(600)

        async with Machine(agent_os(agents=[agents.function(forever)]), tmp_path) as vm:
            session_id = (await vm.create_session("forever")).session_id
            first = asyncio.create_task(vm.send_prompt(session_id, "1"))
            await begun.wait()
            second = asyncio.create_task(vm.send_prompt(session_id, "2"))
            await asyncio.sleep(0.01)
            await vm.close_session(session_id)
            assert (await first).stop_reason == "cancelled"
            with pytest.raises(SessionUnknown, match="was closed"):
                await second
            assert vm.on_disk()[-1]["kind"] == "session.closed"

    asyncio.run(program())


def test_a_session_is_closed_for_everybody_while_its_prompt_still_ends(tmp_path: Path) -> None:
    async def program() -> None:
        begun, cancelled, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow_to_end(session: AgentSession, prompt: str) -> None:
            begun.set()
            try:
                await asyncio.sleep(600)
            finally:
                cancelled.set()
                with anyio.CancelScope(shield=True):
                    await may_end.wait()

        async with Machine(agent_os(agents=[agents.function(slow_to_end)]), tmp_path) as vm:
            session_id = (await vm.create_session("slow_to_end")).session_id
            prompt = asyncio.create_task(vm.send_prompt(session_id, "1"))
            await begun.wait()
            closing = asyncio.create_task(vm.close_session(session_id))
            await cancelled.wait()
            seen = [await vm.get_session(session_id), *await vm.list_sessions(closed=True)]
            assert [(info.status, info.closed_reason) for info in seen] == [("closed", "closed")] * 2
            with pytest.raises(SessionUnknown, match="was closed"):
                await vm.send_prompt(session_id, "2")
            may_end.set()
            await closing
            assert (await prompt).stop_reason == "cancelled"

    asyncio.run(program())


def test_sessions_end_with_the_call_that_created_them_even_while_the_vm_sleeps(tmp_path: Path) -> None:
    async def program() -> None:
        made, may_end = asyncio.Event(), asyncio.Event()

        class Maker(Actor):
            @action
            async def make(self) -> list[str]:
                vm = self.actors.vm.get_or_create(["a"])
                sessions = [await vm.create_session("echo", keep=keep) for keep in (False, True, False)]
                await vm.close_session(sessions[2].session_id)
                made.set()
                await may_end.wait()
                return [session.session_id for session in sessions]

        async with Machine(agent_os(agents=[ECHO]), tmp_path, maker=Maker) as vm:
            making = asyncio.create_task(vm.actor("maker").make())
            await made.wait()
            await vm.sleep()
            may_end.set()
            brief, kept, closed_before = await making
            assert [session.session_id for session in await vm.list_sessions()] == [kept]
            assert (await vm.get_session(brief)).closed_reason == "the call that created it ended"
            assert (await vm.get_session(closed_before)).closed_reason == "closed"

    asyncio.run(program())


def test_sleep_and_restart_keep_what_no_call_of_an_actor_owns(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(agents=[ECHO]), tmp_path) as vm:
            first = await vm.create_session("echo")
            second = await vm.create_session("echo", keep=True)
            for session in (first, second):
                await vm.send_prompt(session.session_id, "before")
            await vm.sleep()
            for session in (first, second):
                assert (await vm.send_prompt(session.session_id, "after sleep")).text == "1: after sleep"
            await vm.restart()
            assert [session.session_id for session in await vm.list_sessions()] == [first.session_id, second.session_id]
            for session in (first, second):
                assert (await vm.send_prompt(session.session_id, "after restart")).text == "2: after restart"
                assert [event.index for event in await vm.session_events(session.session_id)] == list(range(1, 10))
            await vm.close_session(first.session_id)
            await vm.restart()
            assert [session.session_id for session in await vm.list_sessions()] == [second.session_id]
            assert len(await vm.list_sessions(closed=True)) == 2

    asyncio.run(program())


def test_environments_survive_sleep_but_have_to_be_given_again_after_a_restart(tmp_path: Path) -> None:
    async def tell(session: AgentSession, prompt: str) -> str:
        return f"{sorted(session.env)} {len(session.env.get('KEY', ''))}"

    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(tell)]), tmp_path) as vm:
            session = await vm.create_session("tell", env={"KEY": SECRET, "MODE": "x"}, keep=True)
            assert session.env_names == ("KEY", "MODE")
            await vm.sleep()
            assert (await vm.send_prompt(session.session_id, "?")).text == f"['KEY', 'MODE'] {len(SECRET)}"
            await vm.restart()
            with pytest.raises(PromptFailed, match=r"KEY, MODE again.*resume_session"):
                await vm.send_prompt(session.session_id, "?")
            with pytest.raises(ValidationFailed, match="MODE"):
                await vm.resume_session(session.session_id, env={"KEY": SECRET})
            await vm.resume_session(session.session_id, env={"KEY": SECRET, "MODE": "y"})
            assert (await vm.send_prompt(session.session_id, "?")).text == f"['KEY', 'MODE'] {len(SECRET)}"

    asyncio.run(program())


def test_no_secret_is_anywhere_in_what_is_stored_or_shown(tmp_path: Path) -> None:
    """Streamed in pieces, in tool calls, errors, tracebacks, causes and exec output; searched byte by byte."""

    async def leak(session: AgentSession, prompt: str):
        key = session.env["KEY"]
        for letter in f"key {key} end {key[:12]}":
            yield letter
        yield {"type": "note", "text": key}
        yield key[12:]
        yield {"type": "tool_call", "command": ["curl", "-H", key], key: {"nested": [key]}}
        yield {"type": "result", "usage": {"key": key}, "more": key}
        if "fail" in prompt:
            raise ValueError(f"bad key {key}") from KeyError(key)

    async def program() -> list[str]:
        async with Machine(agent_os(agents=[agents.function(leak)], isolation="off"), tmp_path) as vm:
            session = await vm.create_session("leak", env={"KEY": SECRET}, keep=True)
            result = await vm.send_prompt(session.session_id, f"use {SECRET}")
            assert "[redacted KEY]" in result.text
            with pytest.raises(PromptFailed, match=r"ValueError: bad key \[redacted KEY\]") as failed:
                await vm.send_prompt(session.session_id, "fail")
            chain = [repr(failed.value.__cause__), str(failed.value), repr(failed.value.metadata)]
            executed = await vm.exec(
                "echo $KEY; echo $KEY >&2; echo $OTHER",
                env={"KEY": SECRET, "OTHER": "public-value"},
                public_env=["OTHER"],
            )
            assert executed.stdout == "[redacted KEY]\npublic-value\n"
            events = await vm.session_events(session.session_id)
            return [
                repr(result),
                repr(executed),
                *chain,
                repr(events),
                repr(vm.events),
                repr(await vm.list_sessions()),
            ]

    for shown in asyncio.run(program()):
        assert SECRET not in shown
    stored = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert stored
    for path in stored:
        assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("names", ["MY_TOKEN_NAME", b"MY_TOKEN_NAME"])
def test_one_name_for_public_env_makes_no_secret_public_that_is_called_like_a_part_of_it(
    names: Any, tmp_path: Path
) -> None:
    async def program() -> None:
        async with Machine(agent_os(agents=[ECHO]), tmp_path) as vm:
            env = {"MY_TOKEN_NAME": "no secret", "TOKEN": SECRET}
            session = await vm.create_session("echo")
            for call in (
                vm.create_session("echo", env=env, public_env=names),
                vm.resume_session(session.session_id, env=env, public_env=names),
                vm.exec("true", env=env, public_env=names),
                vm.spawn("true", env=env, public_env=names),
            ):
                with pytest.raises(ValidationFailed, match="public_env must be a list of names"):
                    await call

    asyncio.run(program())


def test_written_bytes_are_never_logged(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(agents=[ECHO]), tmp_path) as vm:
            await vm.write_file("file", b"private bytes of a user")
            await vm.delete("file")

    asyncio.run(program())
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"private bytes" not in path.read_bytes()


def test_mistakes_are_told_and_leave_nothing(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(agents=[ECHO]), tmp_path) as vm:
            with pytest.raises(AgentUnknown, match=r"has no agent 'pi'\. It has: echo"):
                await vm.create_session("pi")
            with pytest.raises(WorkspaceError, match="leaves the workspace"):
                await vm.create_session("echo", cwd="../..")
            with pytest.raises(WorkspaceError, match="no such"):
                await vm.create_session("echo", cwd="missing")
            for env in ({"A=B": "x"}, {"": "x"}, {"A\0": "x"}, {"A": f"{SECRET}\0"}, {"A": 5}, ["A"]):
                with pytest.raises(ValidationFailed) as refused:
                    await vm.create_session("echo", env=env)
                assert SECRET not in str(refused.value)
            for action in ("get_session", "close_session", "cancel_prompt", "session_events"):
                for unknown in ("nope", "\ud800", "\0"):
                    with pytest.raises(SessionUnknown, match="no session '"):
                        await getattr(vm, action)(unknown)
            with pytest.raises(SessionUnknown):
                await vm.send_prompt("nope", "x")
            session = await vm.create_session("echo", env=...)
            with pytest.raises(ValidationFailed):
                await vm.send_prompt(session.session_id, 5)
            with pytest.raises(ValidationFailed, match=r"lone surrogate .* at position 3"):
                await vm.send_prompt(session.session_id, "why\udcff")
            assert [row["kind"] for row in vm.on_disk()] == ["session.created"]

    asyncio.run(program())


def test_destroying_a_vm_closes_its_sessions_and_keeps_transcripts_and_files(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(agents=[ECHO]), tmp_path) as vm:
            session = await vm.create_session("echo", keep=True)
            await vm.send_prompt(session.session_id, "x")
            await vm.write_file("file", b"kept")
            activation = await vm.activation()
            activation.runtime.destroy()
            await activation.ended.wait()
            await vm.restart()
            assert (await vm.get_session(session.session_id)).closed_reason == "the VM was destroyed"
            assert len(await vm.session_events(session.session_id)) == 3
            assert await vm.read_file("file") == b"kept"

    asyncio.run(program())


def test_two_vms_have_nothing_in_common(tmp_path: Path) -> None:
    async def program() -> None:
        (tmp_path / "two").mkdir()
        async with (
            Machine(agent_os(agents=[ECHO], workspace=tmp_path), tmp_path) as one,
            Machine(agent_os(agents=[ECHO], workspace=tmp_path), tmp_path / "two", key=("b",)) as two,
        ):
            session = await one.create_session("echo")
            await one.write_file("file", b"one")
            assert not await two.exists("file")
            with pytest.raises(SessionUnknown):
                await two.get_session(session.session_id)
            assert sorted(path.name[:2] for path in (tmp_path / "vm").iterdir()) == ["a-", "b-"]

    asyncio.run(program())


def test_agent_os_refuses_what_makes_no_sense() -> None:
    with pytest.raises(TypeError, match="Two agents are called 'echo'"):
        agent_os(agents=[ECHO, ECHO])
    with pytest.raises(TypeError, match="not 'pi'"):
        agent_os(agents=["pi"])  # type: ignore[list-item]
    for no_list in (ECHO, None):
        with pytest.raises(TypeError, match="takes a list of agents"):
            agent_os(agents=no_list)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match="isolation is one of"):
        agent_os(isolation="strong")  # type: ignore[arg-type]
    assert agent_os() is not agent_os()


@pytest.mark.parametrize("native", [True, False])
def test_a_turn_whose_task_is_cancelled_ends_so_even_if_the_agent_swallows_it(native: bool) -> None:
    """The turn alone, under both ways in which a task can be cancelled."""
    rows: list[dict[str, Any]] = []

    class InMemory:
        def append(self, kind: str, data: dict[str, Any], *, session_id: str | None = None) -> asyncio.Future[None]:
            rows.append(data)
            written = asyncio.get_running_loop().create_future()
            written.set_result(None)
            return written

        async def fetch(self, query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
            return []

    async def program() -> None:
        begun = asyncio.Event()

        async def swallows(session: AgentSession, prompt: str) -> str:
            begun.set()
            while True:
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    return "as if nothing had happened"

        sessions = Sessions("vm/a")
        await sessions.wake(InMemory(), lambda event: None)
        info = await sessions.create("swallows", {}, (), "/home/user", keep=False)
        session = await sessions.ready(info.session_id)
        view = AgentSession(info.session_id, "swallows", Path(), Path(), {}, (), *[None] * 9)  # type: ignore[arg-type]

        async def turn() -> None:
            await take_turn(
                session, agents.function(swallows), view, "go", sessions.redactor, anyio.lowlevel.checkpoint
            )
            rows.append({"type": "went on"})

        if native:
            task = asyncio.create_task(turn())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(turn)
                await begun.wait()
                group.cancel_scope.cancel()
        assert session.cancel is None

    asyncio.run(program())
    types = [row.get("type") for row in rows]
    assert (types[1], types[-1], rows[-1]["stop_reason"]) == ("prompt", "result", "cancelled")
    assert "went on" not in types
