"""Modes, models and MCP servers of a session: chosen, shown, kept, refused."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os, agents
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.errors import AgentError, PromptFailed, SessionUnknown, ValidationFailed
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEYS, configure, need_agent, show_the_chosen_mode, show_the_chosen_model
from tests.agents.test_acp_resuming import ask, keeper, machine, notes
from tests.unit.agent_os.machine import Machine

WAYS = pytest.mark.parametrize("words", [(), ("options",)], ids=["lists", "options"])
"""The two ways in which agents offer what there is to choose from."""


@WAYS
def test_mode_and_model_are_shown_chosen_and_changed(words: tuple[str, ...], tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path, *words) as vm:
            session = await vm.create_session("keeper", model="large")
            assert (session.mode, session.modes) == ("careful", ("careful", "quick"))
            assert (session.model, session.models) == ("large", ("small", "large"))
            assert await vm.list_sessions() == [session]
            changed = await vm.set_mode(session.session_id, "quick")
            assert (changed.mode, changed.model) == ("quick", "large")
            assert (await vm.set_model(session.session_id, "small")).model == "small"
            answer = await ask(vm, session.session_id, "what are you?")
            assert (answer["mode"], answer["model"]) == ("quick", "small")
            events = await vm.session_events(session.session_id)
            assert notes(events) == ["mode: quick", "model: small"]
            assert events[0].data == {"mode": "quick"}

    asyncio.run(program())


@WAYS
@pytest.mark.parametrize("way", ["sleep", "restart"])
def test_what_was_chosen_is_chosen_again_in_the_next_process(words: tuple[str, ...], way: str, tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path, *words) as vm:
            session = await vm.create_session("keeper", mode="quick", keep=True)
            await vm.set_model(session.session_id, "large")
            await (vm.sleep() if way == "sleep" else vm.restart())
            shown = await vm.get_session(session.session_id)
            assert (shown.mode, shown.model) == ("quick", "large")
            answer = await ask(vm, session.session_id, "what are you?")
            assert (answer["mode"], answer["model"]) == ("quick", "large")
            assert notes(await vm.session_events(session.session_id)) == ["model: large"]
            await vm.close_session(session.session_id)
            closed = await vm.get_session(session.session_id)
            assert (closed.status, closed.mode, closed.model) == ("closed", "quick", "large")

    asyncio.run(program())


def test_a_choice_made_while_its_process_sleeps_starts_it(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path, "loads") as vm:
            session = await vm.create_session("keeper")
            await ask(vm, session.session_id, "first")
            await vm.sleep()
            changed = await vm.set_mode(session.session_id, "quick")
            assert (changed.mode, changed.resumed) == ("quick", "loaded")
            assert (await ask(vm, session.session_id, "second"))["mode"] == "quick"

    asyncio.run(program())


def test_a_mode_that_the_agent_takes_by_itself_is_shown_and_kept(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("keeper", keep=True)
            await vm.send_prompt(session.session_id, "switch quick")
            assert (await vm.get_session(session.session_id)).mode == "quick"
            await vm.restart()
            assert (await ask(vm, session.session_id, "what are you?"))["mode"] == "quick"

    asyncio.run(program())


@pytest.mark.parametrize("kind", ["mode", "model"])
def test_what_the_agent_does_not_have_is_refused_with_what_it_has(kind: str, tmp_path: Path) -> None:
    has = "careful, quick" if kind == "mode" else "small, large"

    async def program() -> None:
        async with machine(tmp_path) as vm:
            with pytest.raises(AgentError, match=rf"no {kind} 'other'\. It has: {has}\.") as refused:
                await vm.create_session("keeper", **{kind: "other"})
            assert refused.value.metadata["available"] == has.split(", ")
            assert await vm.list_sessions() == []
            session = await vm.create_session("keeper")
            with pytest.raises(AgentError, match=rf"no {kind} 'other'\. It has: {has}\."):
                await getattr(vm, f"set_{kind}")(session.session_id, "other")
            answer = await ask(vm, session.session_id, "what are you?")
            assert (answer["mode"], answer["model"]) == ("careful", "small")
            with pytest.raises(SessionUnknown):
                await getattr(vm, f"set_{kind}")("nonsense", "other")

    asyncio.run(program())


def test_agents_without_choices_say_so(tmp_path: Path) -> None:
    async def echo(session: Any, prompt: str) -> str:
        return prompt

    async def program() -> None:
        async with Machine(agent_os(agents=[keeper("bare"), agents.function(echo)]), tmp_path) as vm:
            session = await vm.create_session("keeper")
            assert (session.mode, session.modes, session.model, session.models) == (None, (), None, ())
            with pytest.raises(AgentError, match=r"no mode 'quick'\. It offers no choice of mode"):
                await vm.set_mode(session.session_id, "quick")
            with pytest.raises(AgentError, match="'echo' has no modes and models"):
                await vm.create_session("echo", model="large")
            session = await vm.create_session("echo")
            with pytest.raises(AgentError, match="'echo' has no modes and models"):
                await vm.set_model(session.session_id, "large")
            assert (await vm.send_prompt(session.session_id, "hello")).text == "hello"

    asyncio.run(program())


def test_an_agent_that_refuses_a_choice_stays_as_it_was(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path, "stubborn") as vm:
            session = await vm.create_session("keeper")
            with pytest.raises(AgentError, match="did not change its mode to 'quick': I would rather not"):
                await vm.set_mode(session.session_id, "quick")
            assert (await vm.get_session(session.session_id)).mode == "careful"

    asyncio.run(program())


def test_a_choice_that_is_gone_with_a_newer_agent_leaves_it_its_own(tmp_path: Path) -> None:
    async def program() -> None:
        script = tmp_path / "agent.sh"
        keeping = Path(__file__).with_name("keeping_agent.py")
        script.write_text(f'#!/bin/sh\n[ -e "$HOME/newer" ] && set -- fewer\nexec {sys.executable} {keeping} "$@"\n')
        script.chmod(0o755)
        agent = agents.acp("keeper", [str(script)], readable=[keeping.parent])
        async with Machine(agent_os(agents=[agent]), tmp_path) as vm:
            session = await vm.create_session("keeper", mode="quick")
            await ask(vm, session.session_id, "first")
            await vm.sleep()
            await vm.write_file("newer", "")
            assert (await ask(vm, session.session_id, "second"))["mode"] == "careful"
            shown = await vm.get_session(session.session_id)
            assert (shown.mode, shown.modes) == ("careful", ("careful",))
            assert any("no mode 'quick'" in note for note in notes(await vm.session_events(session.session_id)))

    asyncio.run(program())


def test_mcp_servers_reach_the_agent_in_each_of_its_processes_and_their_secrets_nothing_else(tmp_path: Path) -> None:
    remote = {"name": "docs", "url": "http://127.0.0.1:1/mcp", "headers": {"Authorization": "Bearer 0123456789"}}
    local = {
        "name": "files",
        "command": "/bin/true",
        "args": ["--all"],
        "env": [{"name": "KEY", "value": "abcdefghij"}],
    }
    shown: list[str] = []

    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("keeper", mcp_servers=[remote, local])
            shown.append(repr(session))
            answer = (await vm.send_prompt(session.session_id, "which servers?")).text
            assert '"value": "[redacted docs Authorization]"' in answer
            assert '"value": "[redacted files KEY]"' in answer
            assert '"url": "http://127.0.0.1:1/mcp"' in answer
            assert '"args": ["--all"]' in answer
            await vm.sleep()
            again = (await vm.send_prompt(session.session_id, "which servers?")).text
            assert "[redacted docs Authorization]" in again
            echoed = (await vm.send_prompt(session.session_id, "is it 0123456789?")).text
            assert "is it [redacted docs Authorization credentials]?" in echoed
            shown.append(repr(await vm.session_events(session.session_id)))

    asyncio.run(program())
    for secret in ("0123456789", "abcdefghij"):
        assert secret not in "".join(shown)
        for path in tmp_path.glob("nb.agentq.duckdb*"):
            assert secret.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"url": "http://x"}, "needs a name"),
        ({"name": "a"}, "either a url or a command"),
        ({"name": "a", "url": "http://x", "command": "b"}, "either a url or a command"),
        ({"name": "a", "url": "http://x", "args": []}, "has args, but may have only: headers, name, type, url"),
        ({"name": "a", "url": "http://x", "type": "stdio"}, "'http' or 'sse'"),
        ({"name": "a", "url": 7}, "url as str"),
        ({"name": "a", "command": "b", "args": "c"}, "args as a list"),
        ({"name": "a", "command": "b", "args": [1]}, "args as str"),
        ({"name": "a", "command": "b", "type": "http"}, "only be 'stdio'"),
        ({"name": "a", "url": "http://x", "headers": "Bearer top-secret"}, "headers as a dict"),
        ({"name": "a", "url": "http://x", "headers": [["Authorization", "top-secret"]]}, "no pairs"),
        ({"name": "a", "url": "http://x", "headers": {"Authorization": ["top-secret"]}}, "headers as str"),
    ],
)
def test_a_server_that_is_none_is_refused_without_its_secrets(
    server: dict[str, Any], message: str, tmp_path: Path
) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            with pytest.raises(ValidationFailed, match=message) as refused:
                await vm.create_session("keeper", mcp_servers=[server])
            assert "top-secret" not in str(refused.value)
            assert await vm.list_sessions(closed=True) == []

    asyncio.run(program())


def test_two_servers_with_one_name_are_refused(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            with pytest.raises(ValidationFailed, match="two servers with the name 'a'"):
                await vm.create_session("keeper", mcp_servers=[{"name": "a", "command": "b"}] * 2)

    asyncio.run(program())


def test_servers_that_the_agent_cannot_reach_are_refused(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path, "local") as vm:
            with pytest.raises(AgentError, match="takes no MCP servers over http: leave 'docs' out"):
                await vm.create_session("keeper", mcp_servers=[{"name": "docs", "url": "http://127.0.0.1:1"}])
            session = await vm.create_session("keeper", mcp_servers=[{"name": "files", "command": "/bin/true"}])
            assert session.mcp_servers == ("files",)

    asyncio.run(program())


@pytest.mark.parametrize("agent", [agents.pi, agents.claude, agents.codex], ids=lambda agent: agent.name)
def test_a_real_agent_tells_its_models_and_uses_the_one_that_was_chosen(agent: AcpAgent, tmp_path: Path) -> None:
    need_agent(agent)
    wanted = {"pi": "anthropic/claude-opus-4-5", "claude": "haiku", "codex": "gpt-5.2"}[agent.name]
    show_the_chosen_model(agent, wanted, tmp_path)


@pytest.mark.parametrize(
    ("agent", "mode"), [(agents.claude, "acceptEdits"), (agents.codex, "read-only")], ids=["claude", "codex"]
)
def test_a_real_agent_works_in_the_mode_that_was_chosen(agent: AcpAgent, mode: str, tmp_path: Path) -> None:
    need_agent(agent)
    # Claude asks nobody for it then. Codex has modes only where it is not isolated; it asks, and is told no.
    isolation = "off" if agent is agents.codex else "auto"
    show_the_chosen_mode(agent, mode, tmp_path, writes=mode == "acceptEdits", isolation=isolation)


def test_pi_takes_no_servers_and_says_so(tmp_path: Path) -> None:
    need_agent(agents.pi)

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agents.pi], hosts=[model.url]), tmp_path) as vm:
            await configure(vm, model)
            with pytest.raises(AgentError, match="'pi' takes no MCP servers"):
                await vm.create_session("pi", env=KEYS, mcp_servers=[{"name": "files", "command": "/bin/true"}])

    with serving() as model:
        asyncio.run(program(model))


def test_a_prompt_without_its_servers_is_not_sent(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            servers = [{"name": "files", "command": "/bin/true"}]
            session = await vm.create_session("keeper", mcp_servers=servers, keep=True)
            await vm.restart()
            with pytest.raises(PromptFailed, match="the MCP server 'files' again"):
                await vm.send_prompt(session.session_id, "hello")
            with pytest.raises(PromptFailed, match="the MCP server 'files' again"):
                await vm.set_mode(session.session_id, "quick")
            await vm.resume_session(session.session_id, mcp_servers=servers)
            assert (await ask(vm, session.session_id, "hello"))["servers"][0]["name"] == "files"

    asyncio.run(program())
