"""Functions of the notebook called by agents: by real coding agents, in a real kernel too, and by Python functions."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os, agents
from agentq_nb.agent_os import PermissionRequest, PromptResult, SessionEvent
from agentq_nb.agent_os.agents import AcpAgent, AgentSession
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.tools import TOKEN_MARK
from agentq_nb.errors import AgentError, PromptFailed, ValidationFailed
from tests.agents.calling_tools import fails, host_events, show_it_calls_tools, total
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEY, KEYS, configure, need_agent
from tests.kernel.driving import Kernel
from tests.unit.agent_os.machine import Machine

PLACES = [
    (agents.pi, "bubblewrap"),
    (agents.claude, "bubblewrap"),
    (agents.claude, "landlock"),
    (agents.claude, "none"),
    (agents.codex, "bubblewrap"),
]


CELLS = [
    """
    import pandas
    from agentq_nb import agent_os, agents, create_client, setup

    frame = pandas.DataFrame({"city": ["Oslo", "Rome"], "people": [717_710, 2_746_984]})

    def largest(column: str) -> str:
        "The row in which a column is largest."
        return frame.loc[frame[column].idxmax()].to_json()

    async def preview(rows: int = 5) -> pandas.DataFrame:
        "The first rows."
        return frame.head(rows)
    """,
    """
    registry = setup(use={"vm": agent_os(agents=[agents.claude], tools=[largest, preview], hosts=[MODEL])})
    await registry.start()
    vm = create_client().vm.get_or_create(["looker"])
    await vm.write_file(".claude/settings.json", SETTINGS)
    session = await vm.create_session("claude", env={"ANTHROPIC_API_KEY": KEY})
    """,
    """
    # What the tool sees is the variable as it is now.
    frame.loc[len(frame)] = ["Tokyo", 14_254_039]
    result = await vm.send_prompt(session.session_id, PROMPT)
    """,
]


@pytest.mark.parametrize("background", [False, True], ids=["in the kernel's loop", "in the background"])
def test_the_real_claude_looks_at_a_variable_of_a_real_kernel(tmp_path: Path, background: bool) -> None:
    need_agent(agents.claude)
    prompt = (
        '@call largest {"column": "people"}\n@call preview {"rows": 1}\n@call largest {"column": "size"}\n@say seen'
    )
    told = "[[event.type, event.text, event.data] for event in await vm.session_events(session.session_id)]"
    with serving() as model, Kernel(tmp_path, {"AGENTQ_DB": "nb.agentq.duckdb"}, background=background) as kernel:
        settings = json.dumps({"env": {"ANTHROPIC_BASE_URL": model.url}})
        kernel.run(f"SETTINGS, KEY, PROMPT, MODEL = {settings!r}, {KEY!r}, {prompt!r}, {model.url!r}").check()
        for cell in CELLS:
            assert kernel.run(inspect.cleandoc(cell), timeout=120).check().stderr == ""
        assert kernel.value("result.text").endswith("seen")
        events = [event for event in kernel.value(told) if event[2].get("host_tool")]
        kernel.run("await registry.stop()").check()
    largest, preview, failed = '{"city":"Tokyo","people":14254039}', "1 rows, 2 columns", "KeyError: 'size'"
    # It went to the model...
    assert model.results[0] == largest
    assert model.results[1].startswith(preview)
    assert model.results[2] == failed
    # ... and into the transcript.
    assert [event[0] for event in events] == ["tool_call", "tool_result"] * 3
    assert events[0][2]["input"] == {"column": "people"}
    assert events[1][1] == largest
    assert events[3][1].startswith(preview)
    assert events[5][1] == failed


@pytest.mark.parametrize(("agent", "kind"), PLACES, ids=lambda it: getattr(it, "name", it))
def test_a_real_agent_calls_tools_and_is_told_what_went_wrong(
    agent: AcpAgent, kind: isolation.IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_agent(agent)
    show_it_calls_tools(agent, kind, tmp_path, monkeypatch)


def test_an_agent_that_was_started_again_has_its_tools_again(tmp_path: Path) -> None:
    need_agent(agents.claude)

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agents.claude], tools=[total], hosts=[model.url]), tmp_path) as vm:
            await configure(vm, model)
            session = await vm.create_session("claude", env=KEYS, keep=True)
            await vm.send_prompt(session.session_id, '@call total {"of": ["tea"]}\n@say one')
            await vm.sleep()
            await vm.send_prompt(session.session_id, '@call total {"of": ["milk"]}\n@say two')
            events = host_events(await vm.session_events(session.session_id))
            assert [event.text for event in events if event.type == "tool_result"] == ["tea cost 39", "milk cost 3"]

    with serving() as model:
        asyncio.run(program(model))


@pytest.mark.parametrize(
    ("agent", "variable"), [(agents.pi, "AGENTQ_TOOLS_TOKEN"), (agents.claude, "AGENTQ_MCP_1")], ids=["pi", "claude"]
)
def test_the_token_that_an_agent_has_in_its_environment_is_told_to_nobody(
    agent: AcpAgent, variable: str, tmp_path: Path
) -> None:
    need_agent(agent)
    tokens: list[str] = []

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agent], tools=[total], hosts=[model.url]), tmp_path) as vm:
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=KEYS)
            await vm.send_prompt(session.session_id, f"@run echo ${variable} | tee token.txt\n@say it is out")
            token = (await vm.read_file("token.txt")).decode().removeprefix("Bearer ").strip()
            assert len(token) > 80
            tokens.append(token)
            told = repr(await vm.session_events(session.session_id))
            assert TOKEN_MARK not in told
            assert token.removeprefix(TOKEN_MARK) not in told
            assert (await vm.exec("cat token.txt")).stdout.strip().endswith("[redacted AGENTQ_TOOLS_TOKEN]")

    with serving() as model:
        asyncio.run(program(model))
    for path in tmp_path.glob("nb.agentq.duckdb*"):
        stored = path.read_bytes()
        assert TOKEN_MARK.encode() not in stored, path
        assert tokens[0].removeprefix(TOKEN_MARK).encode() not in stored, path


def test_claude_asks_before_it_calls_a_tool_and_keeps_to_the_answer(tmp_path: Path) -> None:
    need_agent(agents.claude)
    asked: list[str] = []

    def permit(request: PermissionRequest) -> str:
        asked.append(request.title)
        return "deny"

    async def program(model: FakeModel) -> None:
        async with Machine(
            agent_os(agents=[agents.claude], tools=[total], permissions=permit, hosts=[model.url]), tmp_path
        ) as vm:
            await configure(vm, model)
            session = await vm.create_session("claude", env=KEYS)
            await vm.send_prompt(session.session_id, '@call total {"of": ["tea"]}\n@say I was told no')
            assert host_events(await vm.session_events(session.session_id)) == []

    with serving() as model:
        asyncio.run(program(model))
    assert asked == ["mcp__notebook__total"]


def test_an_agent_that_takes_no_tools_says_so_in_the_transcript(tmp_path: Path) -> None:
    stub = agents.acp("stub", [sys.executable, str(Path(__file__).with_name("stub_agent.py"))], readable=[sys.prefix])

    async def program() -> None:
        async with Machine(agent_os(agents=[stub], tools=[total], isolation="off"), tmp_path) as vm:
            session = await vm.create_session("stub")
            for _ in range(2):
                await vm.send_prompt(session.session_id, "count 1")
            notes = [event.text for event in await vm.session_events(session.session_id) if event.type == "note"]
            assert notes == ["The tools of the notebook were not offered: stub takes none over HTTP."]
            with pytest.raises(AgentError, match="The name 'notebook' is that of the notebook's own tools"):
                await vm.create_session("stub", mcp_servers=[{"name": "notebook", "command": "true"}])

    asyncio.run(program())


# --- Python agents ---


def prompted(f: Any, folder: Path, **options: Any) -> tuple[PromptResult, list[SessionEvent]]:
    """The result of one prompt to a function that has tools, and the transcript."""

    async def program() -> tuple[PromptResult, list[SessionEvent]]:
        tools = [total, fails, where, nap]
        async with Machine(agent_os(agents=[agents.function(f, name="f")], tools=tools), folder) as vm:
            session = await vm.create_session("f", **options)
            result = await vm.send_prompt(session.session_id, "go")
            return result, await vm.session_events(session.session_id)

    return asyncio.run(program())


def where() -> list[str]:
    """Where a plain function runs."""
    return [threading.current_thread().name, type(asyncio.get_running_loop()).__name__]


async def nap(seconds: float) -> object:
    """Sleep, and return something that is no JSON."""
    await asyncio.sleep(seconds)
    return threading.current_thread()


async def coroutine(session: AgentSession, prompt: str) -> str:
    assert list(session.tools) == ["total", "fails", "where", "nap"]
    assert inspect.iscoroutinefunction(session.tools["total"])
    assert str(inspect.signature(session.tools["total"])) == str(inspect.signature(total))
    assert session.tools["total"].__doc__ == "What they cost together."
    with pytest.raises(LookupError, match="no such column: x"):
        await session.tools["fails"]("x")
    with pytest.raises(ValidationFailed, match="of: Field required"):
        await session.tools["total"](plus=1)
    with pytest.raises(TypeError, match="multiple values"):
        await session.tools["total"](["tea"], of=["milk"])
    assert await session.tools["nap"](0) is threading.main_thread()  # the value itself, not its text
    return f"{await session.tools['total'](['tea'], plus=3)}, {await session.tools['where']()}"


def plain(session: AgentSession, prompt: str) -> str:
    assert threading.current_thread() is not threading.main_thread()
    assert not inspect.iscoroutinefunction(session.tools["total"])
    with pytest.raises(LookupError, match="no such column: x"):
        session.tools["fails"]("x")
    with pytest.raises(ValidationFailed, match="of: Field required"):
        session.tools["total"](plus=1)
    assert session.tools["nap"](seconds=0) is threading.main_thread()
    return f"{session.tools['total'](['tea'], plus=3)}, {session.tools['where']()}"


async def generator(session: AgentSession, prompt: str):
    yield await coroutine(session, prompt)


@pytest.mark.parametrize("f", [coroutine, generator, plain])
def test_a_python_agent_calls_the_same_functions_and_they_run_in_the_loop(f: Any, tmp_path: Path) -> None:
    result, events = prompted(f, tmp_path)
    assert result.text.startswith("tea cost 42, ['MainThread', ")
    told = host_events(events)
    assert [event.text for event in told] == [
        "fails",
        "LookupError: no such column: x",
        "total",
        "total was not called, its arguments do not fit:\n- of: Field required\nIt is total(of: list[str], plus: int = 0).",
        "nap",
        repr(threading.main_thread()),
        "total",
        "tea cost 42",
        "where",
        told[-1].text,
    ]
    # In order with the rest: before the text that was made of them.
    types = [event.type for event in events]
    assert types == ["prompt", *["tool_call", "tool_result"] * 5, "text", "result"]


def test_cancelling_the_prompt_of_a_python_agent_cancels_its_tool(tmp_path: Path) -> None:
    async def sleeper(session: AgentSession, prompt: str) -> None:
        await session.tools["nap"](600)

    def blocked(session: AgentSession, prompt: str) -> None:
        session.tools["nap"](600)

    naps = [0, 0, 0.2, 0.2]  # also before the tool has begun, while its call is being written down

    async def program() -> None:
        both = [agents.function(sleeper), agents.function(blocked)]
        async with Machine(agent_os(agents=both, tools=[nap]), tmp_path) as vm:
            for agent in both * 2:
                session = await vm.create_session(agent.name)
                begun = vm.heard("tool_call", "nap")
                calling = asyncio.create_task(vm.send_prompt(session.session_id, "go"))
                await asyncio.wait_for(begun.wait(), 30)
                told = vm.heard("tool_result", "")
                await asyncio.sleep(naps.pop())
                assert await vm.cancel_prompt(session.session_id)
                assert (await calling).stop_reason == "cancelled"
                await asyncio.wait_for(told.wait(), 30)
                events = host_events(await vm.session_events(session.session_id))
                assert [event.data.get("status") for event in events] == [None, "cancelled"]

    asyncio.run(program())


def test_a_tool_whose_error_nobody_catches_fails_the_prompt(tmp_path: Path) -> None:
    async def careless(session: AgentSession, prompt: str) -> None:
        await session.tools["fails"]("size")

    with pytest.raises(PromptFailed, match="LookupError: no such column: size"):
        prompted(careless, tmp_path)


def test_a_vm_without_tools_has_none_to_offer(tmp_path: Path) -> None:
    async def looks(session: AgentSession, prompt: str) -> str:
        return f"{dict(session.tools)} {await session.open_tools()}"

    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(looks)]), tmp_path) as vm:
            session = await vm.create_session("looks")
            assert (await vm.send_prompt(session.session_id, "go")).text == "{} None"

    asyncio.run(program())


def test_a_tool_may_use_other_actors_and_the_vm_itself(tmp_path: Path) -> None:
    machines: list[Machine] = []

    async def files() -> list[str]:
        """The names of the files in the workspace."""
        return [info.name for info in await machines[0].list_dir(".")]

    async def lists(session: AgentSession, prompt: str) -> str:
        session.write("notes.txt", "hello")
        return str(await session.tools["files"]())

    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(lists)], tools=[files]), tmp_path) as vm:
            machines.append(vm)
            session = await vm.create_session("lists")
            assert "notes.txt" in (await vm.send_prompt(session.session_id, "go")).text

    asyncio.run(program())
