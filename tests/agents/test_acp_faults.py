"""Agents over ACP that break in every way, against the promises: failures a person can act on, and nothing left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os, agents
from agentq_nb.agent_os import PermissionRequest
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.agents.acp import conversation
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.errors import AgentError, PromptFailed
from tests.agents.running import all_gone, marked, new_mark
from tests.agents.stub_agent import GREETING
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_only

PROJECT = Path(__file__).resolve().parents[2]
STUB = Path(__file__).with_name("stub_agent.py")
SECRET = "sk-ant-0123456789abcdef"
TOLD = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def stub(*words: str) -> AcpAgent:
    return agents.acp("stub", [sys.executable, str(STUB), *words], readable=[STUB.parent])


def machine(folder: Path, *words: str, **options: Any) -> Machine:
    return Machine(agent_os(agents=[stub(*words)], **options), folder)


def texts(events: list[Any], kind: str) -> list[str | None]:
    return [event.text for event in events if event.type == kind]


def test_a_turn_with_text_thoughts_plan_and_usage(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            result = await vm.send_prompt(session.session_id, "think")
            assert (result.text, result.stop_reason) == ("So I am.", "end_turn")
            assert result.usage == {"source": "agent", "covers": None, **TOLD}
            events = await vm.session_events(session.session_id)
            assert [event.type for event in events] == ["prompt", "note", "note", "note", "text", "result"]
            assert events[1].text == "I think."
            assert events[2].data == {"plan": [{"content": "first this"}]}
            assert events[3].data == {"update": {"sessionUpdate": "something_new", "value": 1}}
            assert [event.index for event in vm.events] == [event.index for event in events]

    asyncio.run(program())


@pytest.mark.parametrize("greeting", [agents.pi.greeting, None], ids=["told apart", "not told apart"])
def test_a_greeting_that_comes_late_is_no_part_of_the_answer(greeting: Any, tmp_path: Path) -> None:
    async def program() -> None:
        greeter = dataclasses.replace(stub("greet"), greeting=greeting)
        async with Machine(agent_os(agents=[greeter]), tmp_path) as vm:
            session = await vm.create_session("stub")
            answers = [(await vm.send_prompt(session.session_id, "think")).text for _ in range(2)]
            said_twice = f"{GREETING}So I am."
            assert answers == ["So I am." if greeting else said_twice, said_twice]

    asyncio.run(program())


def test_events_keep_their_order_however_fast_they_come(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            result = await vm.send_prompt(session.session_id, "count 3000")
            assert result.text.split() == [str(number) for number in range(3000)]
            events = await vm.session_events(session.session_id)
            assert "".join(text or "" for text in texts(events, "text")) == result.text
            assert events[-1].type == "result"

    asyncio.run(program())


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock", "none"])
def test_the_prompt_arrives_as_it_is_and_beside_it_what_home_means(
    kind: isolation.IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_only(kind, monkeypatch)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    mode = "off" if kind == "none" else "auto"

    async def program() -> None:
        async with machine(tmp_path, isolation=mode) as vm:
            assert (await vm.isolation()).kind == kind
            await vm.make_dir("src")
            session = await vm.create_session("stub", cwd="src")
            prompt = "Write to /home/user/a.txt\n"
            first, *beside = json.loads((await vm.send_prompt(session.session_id, prompt)).text)
            assert first == prompt
            if kind == "bubblewrap":
                assert beside == []
            else:
                root = next((tmp_path / "nb.agentq" / "vm").iterdir())
                assert len(beside) == 1
                assert f"/home/user, it means the folder {root}" in beside[0]
            again = json.loads((await vm.send_prompt(session.session_id, "again")).text)
            assert again == ["again"]
            seen = (await vm.send_prompt(session.session_id, f"look {secret}")).text
            assert seen == ("read secret" if kind == "none" else "cannot read it")

    asyncio.run(program())


def test_an_agent_killed_in_a_prompt_fails_it_and_is_started_again_by_the_next(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            await vm.send_prompt(session.session_id, "remember this")
            with pytest.raises(PromptFailed, match=r"in the middle of a prompt \(exit code 137\).*\nabout to die"):
                await vm.send_prompt(session.session_id, "die")
            prompt, beside = json.loads((await vm.send_prompt(session.session_id, "go on")).text)
            assert prompt == "go on"
            assert "User: remember this" in beside
            events = await vm.session_events(session.session_id)
            assert "ended in the middle" in (texts(events, "error")[0] or "")
            assert "was restarted" in (texts(events, "note")[0] or "")

    asyncio.run(program())


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("flood", "flooded"),
        ("long_line", "x" * 3_000_000),
        ("noise", "after the noise"),
        ("ask_for_file", "-32601"),
    ],
)
def test_what_an_agent_may_do_wrong_without_failing(prompt: str, answer: str, tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            assert (await vm.send_prompt(session.session_id, prompt)).text == answer
            assert json.loads((await vm.send_prompt(session.session_id, "and now?")).text)[0] == "and now?"
            if prompt == "noise":
                notes = texts(await vm.session_events(session.session_id), "note")
                assert len(notes) == 1
                assert "no frame of the protocol" in (notes[0] or "")

    asyncio.run(program())


def test_an_error_of_its_language_model_fails_the_prompt_with_what_it_said(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            with pytest.raises(PromptFailed, match=r"could not answer: Internal error.*it is Sunday"):
                await vm.send_prompt(session.session_id, "refuse")
            assert json.loads((await vm.send_prompt(session.session_id, "and now?")).text)[0] == "and now?"

    asyncio.run(program())


def test_an_agent_that_exits_at_start_makes_no_session_and_says_why(tmp_path: Path) -> None:
    mark = new_mark()

    async def program() -> None:
        async with machine(tmp_path, "exit") as vm:
            with pytest.raises(
                AgentError, match=r"before it was ready \(exit code 1\)(.|\n)*library that is not there"
            ):
                await vm.create_session("stub", env=mark)
            assert await vm.list_sessions() == []
            assert [session.closed_reason for session in await vm.list_sessions(closed=True)] == [
                "its agent did not start"
            ]

    asyncio.run(program())
    assert all_gone(mark)


def test_an_agent_that_never_gets_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "_STARTING", 0.5)
    mark = new_mark()

    async def program() -> None:
        async with machine(tmp_path, "mute") as vm:
            with pytest.raises(AgentError, match=r"did not get ready within 0.5 s"):
                await vm.create_session("stub", env=mark)

    asyncio.run(program())
    assert all_gone(mark)


def test_an_agent_that_is_not_installed_makes_no_session_and_says_how_to_get_it(tmp_path: Path) -> None:
    missing = agents.acp("mine", ["no-such-agent", "--acp"])
    assert not missing.check()

    async def program() -> None:
        async with Machine(agent_os(agents=[missing]), tmp_path) as vm:
            with pytest.raises(AgentError, match="There is no no-such-agent on the PATH"):
                await vm.create_session("mine")

    asyncio.run(program())


def test_an_agent_that_ignores_its_cancellation_is_ended_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "_CANCELLING", 0.2)

    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            begun = vm.heard("text", "hanging")
            prompt = asyncio.create_task(vm.send_prompt(session.session_id, "hang"))
            await begun.wait()
            assert await vm.cancel_prompt(session.session_id)
            result = await prompt
            assert (result.text, result.stop_reason) == ("hanging", "cancelled")
            assert json.loads((await vm.send_prompt(session.session_id, "and now?")).text)[0] == "and now?"

    asyncio.run(program())


@pytest.mark.parametrize("way", ["close", "sleep", "stop"])
def test_the_end_of_a_session_leaves_no_process(way: str, tmp_path: Path) -> None:
    mark = new_mark()

    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub", env=mark, keep=True)
            await vm.send_prompt(session.session_id, "child")
            assert len(marked(mark)) > 1
            if way == "close":
                await vm.close_session(session.session_id)
            elif way == "sleep":
                await vm.sleep()
            if way != "stop":
                assert marked(mark) == []
            if way == "sleep":
                answer = json.loads((await vm.send_prompt(session.session_id, "and now?")).text)
                assert answer[0] == "and now?"
                assert "User: child" in answer[1]
                assert marked(mark)

    asyncio.run(program())
    assert all_gone(mark)


KERNEL = """
import asyncio, json, sys
from pathlib import Path
from tests.agents.test_acp_faults import machine

async def program():
    async with machine(Path(sys.argv[1])) as vm:
        session = await vm.create_session("stub", env=json.loads(sys.argv[2]))
        await vm.send_prompt(session.session_id, "child")
        prompt = asyncio.create_task(vm.send_prompt(session.session_id, "hang"))
        print("ready", flush=True)
        await prompt

asyncio.run(program())
"""


def test_a_kernel_that_is_killed_leaves_no_agent(tmp_path: Path) -> None:
    mark = new_mark()
    words = [sys.executable, "-c", textwrap.dedent(KERNEL), str(tmp_path), json.dumps(mark)]
    kernel = subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert kernel.stdout is not None
    with kernel:
        assert kernel.stdout.readline() == "ready\n"
        assert len(marked(mark)) > 1
        kernel.send_signal(signal.SIGKILL)
    assert all_gone(mark)


@pytest.mark.parametrize(
    ("permissions", "option"),
    [
        ("allow", "id-allow_once"),
        ("deny", "id-reject_once"),
        ("function", "id-allow_once"),
        ("broken", "id-reject_once"),
    ],
)
def test_permissions_are_answered_as_the_user_said(permissions: str, option: str, tmp_path: Path) -> None:
    asked: list[PermissionRequest] = []

    async def function(request: PermissionRequest) -> str:
        asked.append(request)
        return "allow"

    def broken(request: PermissionRequest) -> str:
        return "maybe"

    given = {"function": function, "broken": broken}.get(permissions, permissions)

    async def program() -> None:
        async with machine(tmp_path, permissions=given) as vm:
            session = await vm.create_session("stub")
            result = await vm.send_prompt(session.session_id, "ask")
            assert json.loads(result.text) == {"outcome": "selected", "optionId": option}
            answers = texts(await vm.session_events(session.session_id), "permission_answer")
            because = " (the function given as permissions failed)" if permissions == "broken" else ""
            assert answers == [f"permission for rm -rf /: {'allow' if 'allow' in option else 'deny'}{because}"]
            if permissions == "function":
                assert (asked[0].title, asked[0].kind, asked[0].agent) == ("rm -rf /", "execute", "stub")
                assert asked[0].session_id == session.session_id

    asyncio.run(program())


def test_words_that_are_no_permissions_are_refused() -> None:
    with pytest.raises(TypeError, match='"allow", "deny", "ask" or a function'):
        agent_os(agents=[], permissions="always")  # type: ignore[arg-type]
    for seconds in (0, -1, float("nan")):
        with pytest.raises(TypeError, match="permission_timeout is in seconds"):
            agent_os(agents=[], permissions="ask", permission_timeout=seconds)


def test_a_command_that_is_no_list_is_refused() -> None:
    with pytest.raises(TypeError, match="as a list"):
        agents.acp("mine", "my-agent --acp")
    # Taken letter by letter it would show the agent all of "/".
    with pytest.raises(TypeError, match="readable folders as a list"):
        agents.acp("mine", ["my-agent"], readable="/opt/mine")


def test_a_secret_is_nowhere_however_the_agent_tells_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shown: list[str] = []

    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub", env={"API_KEY": SECRET})
            shown.append(repr(session))
            result = await vm.send_prompt(session.session_id, "tell API_KEY")
            assert result.text == "it is [redacted API_KEY]."
            with pytest.raises(PromptFailed) as failed:
                await vm.send_prompt(session.session_id, "tell_and_die API_KEY")
            assert "the key is [redacted API_KEY]" in str(failed.value)
            shown.extend([repr(result), repr(failed.value), repr(failed.value.metadata), repr(failed.getrepr())])
            shown.append(repr(await vm.session_events(session.session_id)))
            shown.append(repr(vm.events))

    asyncio.run(program())
    assert SECRET not in "".join(shown) + caplog.text
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
