"""What is shown of functions of the notebook with each real agent, against a model on loopback."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from agentq_nb import agent_os
from agentq_nb.agent_os import SessionEvent
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.sandbox import isolation
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEYS, configure
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_only

prices = {"tea": 39, "milk": 3}


def total(of: list[str], plus: int = 0) -> str:
    """What they cost together."""
    return f"{' and '.join(of)} cost {sum(prices[name] for name in of) + plus}"


def fails(why: str) -> None:
    """Fails."""
    raise LookupError(f"no such column: {why}")


def host_events(events: list[SessionEvent]) -> list[SessionEvent]:
    return [event for event in events if event.data.get("host_tool")]


def show_it_calls_tools(
    agent: AcpAgent, kind: isolation.IsolationKind, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls them, hears what went wrong, takes them with it when it is cancelled, and calls them again."""
    use_only(kind, monkeypatch)
    running, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        """Never ends."""
        running.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    async def program(model: FakeModel) -> None:
        mode = "off" if kind == "none" else "required"
        vm_class = agent_os(agents=[agent], isolation=mode, tools=[total, fails, endless], hosts=[model.url])
        async with Machine(vm_class, folder) as vm:
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=KEYS)
            prompt = (
                '@call total {"of": ["tea", "milk"]}\n@call fails {"why": "size"}\n@call total {"plus": "x"}\n@say ok'
            )
            result = await vm.send_prompt(session.session_id, prompt)
            assert result.text.endswith("ok")
            # Each call once, in the agent's own words.
            assert len(result.tool_calls) == 3
            assert "tea and milk cost 42" in model.results[0]
            assert "LookupError: no such column: size" in model.results[1]
            assert "of" in model.results[2]
            # Gemini looks at the arguments itself.
            assert re.search("integer|required property", model.results[2])
            events = host_events(await vm.session_events(session.session_id))
            assert [event.text for event in events[:4]] == [
                "total",
                "tea and milk cost 42",
                "fails",
                "LookupError: no such column: size",
            ]

            calling = asyncio.create_task(vm.send_prompt(session.session_id, "@call endless {}\n@say no"))
            await asyncio.wait_for(running.wait(), 60)
            assert await vm.cancel_prompt(session.session_id)
            assert (await calling).stop_reason == "cancelled"
            assert ended.is_set()
            # It is the same agent still, and its tools are there.
            again = await vm.send_prompt(session.session_id, '@call total {"of": ["tea"], "plus": 1}\n@say again')
            assert again.text.endswith("again")
            assert "tea cost 40" in model.results[-1]
            assert not any("was restarted" in (event.text or "") for event in vm.events)
            await vm.close_session(session.session_id)

    with serving() as model:
        asyncio.run(program(model))
