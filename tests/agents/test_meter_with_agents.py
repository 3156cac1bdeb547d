"""The real Pi, Claude Code and Codex behind the meter: its counts are their model's own, and the key is nowhere on their side."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import LLM, Budget, agent_os, agents, map, setup  # noqa: A004
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.meter import account as accounts
from agentq_nb.agent_os.meter.access import TOKEN_MARK
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.errors import AgentqError, BudgetSpent, RateLimited
from tests.agents.fake_llm import FakeModel, Tokens, serving
from tests.agents.real_agents import need_agent
from tests.agents.searching import assert_not_stored, assert_nowhere
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_only

AGENTS = [agents.pi, agents.claude, agents.codex]
KEY = "sk-ant-the-real-key-0123456789"
LOOK = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\\\0' '\\\\n' > seen; env >> seen; cp -r ~/.[a-z]* copied 2>/dev/null; true"


def model_of(agent: AcpAgent, model: FakeModel, **options: Any) -> LLM:
    if agent is agents.codex:
        return LLM("openai", KEY, base_url=f"{model.url}/v1", **options)
    return LLM("anthropic", KEY, base_url=model.url, **options)


async def prepare(vm: Any) -> None:
    """What a user chooses; where the models are, and with which key, is for the meter."""
    chosen = {"defaultProvider": "anthropic", "defaultModel": "claude-sonnet-4-5", "retry": {"enabled": False}}
    await vm.write_file(".pi/agent/settings.json", json.dumps(chosen))
    await vm.write_file(".codex/config.toml", 'model = "gpt-5"\n')


async def counted(vm: Any) -> list[Tokens]:
    names = "model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens"
    return [Tokens(*row) for row in (await vm.registry.sql(f"select {names} from usage where status = 200")).rows]


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock", "none"])
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_the_counts_are_those_of_the_model_and_the_key_is_nowhere_on_the_agents_side(
    agent: AcpAgent, kind: isolation.IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_agent(agent)
    use_only(kind, monkeypatch)

    async def program(model: FakeModel) -> str:
        mode = "off" if kind == "none" else "required"
        cls = agent_os(agents=[agent], isolation=mode, llm=model_of(agent, model))
        async with Machine(cls, tmp_path) as vm:
            assert (await vm.isolation()).kind == kind
            await prepare(vm)
            session = await vm.create_session(agent.name)
            result = await vm.send_prompt(
                session.session_id, f"@write hello.txt hello\n@run {LOOK}\n@say both are there"
            )
            assert result.text.endswith("both are there")
            assert (await vm.read_file("hello.txt")).decode().strip() == "hello"
            assert TOKEN_MARK.encode() in await vm.read_file("seen")  # what is looked for would have been found
            again = await vm.send_prompt(session.session_id, "@say the second")
            assert again.text.endswith("the second")
            assert len(model.counted) >= 4
            assert sorted(await counted(vm), key=repr) == sorted(_as_named(agent, model), key=repr)
            with pytest.raises(AgentqError) as failed:
                await vm.send_prompt(session.session_id, "@status 401")
            assert model.keys == {KEY}
            for process in _environments():
                if KEY.encode() in process:
                    assert b"PYTEST_CURRENT_TEST" in process, "only this process may have it"
            shown = f"{failed.value!r}{failed.value.metadata!r}{await vm.session_events(session.session_id)!r}"
            return shown + repr(vm.events) + repr(await vm.get_session(session.session_id))

    with serving() as model:
        model.varies = True
        shown = asyncio.run(program(model))
    assert_nowhere([KEY], shown)
    assert assert_not_stored([KEY], tmp_path) > 5


def _as_named(agent: AcpAgent, model: FakeModel) -> list[Tokens]:
    """What the model counted, as its kind of endpoint names it."""
    if agent is not agents.codex:
        return model.counted
    return [Tokens(tokens.model, tokens.input, tokens.output, tokens.cache_read) for tokens in model.counted]


def _environments() -> list[bytes]:
    found: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found.append(path.read_bytes() if path.stat().st_uid == os.getuid() else b"")
        except OSError:
            continue
    return found


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_a_limit_of_the_provider_is_told_with_the_time_in_its_headers(agent: AcpAgent, tmp_path: Path) -> None:
    need_agent(agent)

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agent], llm=model_of(agent, model)), tmp_path) as vm:
            await prepare(vm)
            session = await vm.create_session(
                agent.name, env={"CLAUDE_CODE_MAX_RETRIES": "0"}, public_env=["CLAUDE_CODE_MAX_RETRIES"]
            )
            with pytest.raises(RateLimited) as limited:
                await vm.send_prompt(session.session_id, "@retry_after 2000\n@status 429")
            ends = limited.value.ends_at(0)
            assert ends is not None
            assert 1900 < ends - time.time() <= 2000
            assert limited.value.message.count("too often") == 1
            assert "It is not known" not in limited.value.message
            other = await vm.create_session(agent.name)
            with pytest.raises(RateLimited, match="was not asked"):
                await vm.send_prompt(other.session_id, "@say too early")
        assert not any("too early" in body for body in model.bodies)

    with serving() as model:
        asyncio.run(program(model))


def test_map_needs_no_key_where_its_vm_has_the_model_and_its_frame_has_the_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_agent(agents.claude)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-environment")

    async def program(model: FakeModel) -> None:
        vm = agent_os(agents=[agents.claude], llm=model_of(agents.claude, model))
        async with setup(store=tmp_path / "nb.agentq.duckdb"):
            batch = await map(agents.claude, ["@say one", "@say two"], name="two", vm=vm)
            frame = await batch.frame()
            assert list(frame["reply"]) == ["one", "two"]
            assert frame["tokens"].sum() == sum(tokens.input + tokens.output for tokens in model.counted)
            assert (frame["cost"] > 0).all()
            assert (await batch.estimate()).total == pytest.approx(frame["cost"].sum())
        assert model.keys == {KEY}

    with serving() as model:
        asyncio.run(program(model))


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_an_agent_whose_prompt_met_a_spent_budget_goes_on_in_its_session_when_it_was_raised(
    agent: AcpAgent, tmp_path: Path
) -> None:
    need_agent(agent)

    async def program(model: FakeModel) -> None:
        # An answer takes 10 tokens and gives 5: it costs a dollar.
        llm = model_of(agent, model, prices={"*": {"input": 90_000, "output": 20_000}}, budget=Budget(2, hold=0))
        async with Machine(agent_os(agents=[agent], llm=llm), tmp_path) as vm:
            await prepare(vm)
            session = await vm.create_session(agent.name)
            with pytest.raises(BudgetSpent):
                await vm.send_prompt(session.session_id, "@run true\n@run true\n@run true\n@run true\n@say too much")
            assert len(model.counted) <= 2 + 1  # Claude Code asks twice at once
            account = accounts.accounts_of(vm.workspaces, [llm])[0]
            assert account.spending is not None
            account.spending.change(100)
            answer = await vm.send_prompt(session.session_id, "@say it goes on")
            assert answer.text.endswith("it goes on")
            events = await vm.session_events(session.session_id)
            assert not any("was restarted" in (event.text or "") for event in events)

    with serving() as model:
        asyncio.run(program(model))
