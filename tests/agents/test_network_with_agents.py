"""Real agents in a network of their own: they reach their model, and nothing else that they are not to reach."""

from __future__ import annotations

import asyncio
import shlex
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agentq_nb import agent_os, agents
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.network.availability import Means
from agentq_nb.agent_os.values import NetworkMode
from agentq_nb.errors import PromptFailed
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEYS, configure, need_agent
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import need_own_network, use_ports

AGENTS = (agents.pi, agents.claude, agents.codex)
BASE_URLS = {"pi": "ANTHROPIC_BASE_URL", "claude": "ANTHROPIC_BASE_URL", "codex": "OPENAI_BASE_URL"}

METADATA = "http://169.254.169.254/latest/meta-data/"


def total(of: list[str]) -> str:
    """What they cost together."""
    return f"{' and '.join(of)} cost 42"


@pytest.mark.parametrize(("network", "means"), [("web", "namespace"), ("llm", "namespace"), ("llm", "ports")])
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_a_real_agent_works_and_reaches_nothing_of_this_machine_but_its_model_and_tools(
    agent: AcpAgent, network: NetworkMode, means: Means, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if means == "ports":
        use_ports(monkeypatch)
    else:
        need_own_network()
    need_agent(agent)

    async def program(model: FakeModel, port: int, other: int) -> None:
        environment = KEYS | {BASE_URLS[agent.name]: f"{model.url}/v1" if agent is agents.codex else model.url}
        vm_class = agent_os(agents=[agent], network=network, tools=[total])
        async with Machine(vm_class, tmp_path) as vm:
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=environment, public_env=[BASE_URLS[agent.name]])
            prompt = '@write hello.txt hello\n@run expr 40 + 2 > ran.txt\n@call total {"of": ["tea"]}\n@say all done'
            result = await vm.send_prompt(session.session_id, prompt)
            assert result.text.endswith("all done")
            assert (await vm.read_file("hello.txt")).decode().strip() == "hello"
            assert (await vm.read_file("ran.txt")).decode() == "42\n"
            assert "tea cost 42" in model.results[-1]

            tries = [f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{other}/", METADATA, "http://10.0.0.1/"]
            each = "; ".join(
                f"curl -s -o /dev/null --max-time 20 {way} {shlex.quote(url)} && echo reached >> reached"
                for url in tries[:2]
                for way in ("--noproxy '*'", "--noproxy '' --fail")
            )
            refused = "; ".join(
                f"curl -s -o /dev/null --fail --max-time 20 {url} && echo reached >> reached" for url in tries[2:]
            )
            await vm.send_prompt(session.session_id, f"@run {each}; {refused}; echo tried > tried\n@say tried")
            assert (await vm.read_file("tried")).decode() == "tried\n"
            assert not await vm.exists("reached")
            events = await vm.session_events(session.session_id)
            told = [event.text for event in events if event.data.get("refused")]
            for host in (f"127.0.0.1:{port}", f"127.0.0.1:{other}", "169.254.169.254:80", "10.0.0.1:80"):
                assert any(text.startswith(f"{host} was not reached") for text in told), (host, told)

    with serving() as model, ExitStack() as listeners:
        ports: list[int] = []
        for _ in range(2):
            listening = listeners.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports.append(listening.getsockname()[1])
        asyncio.run(program(model, *ports))


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_under_none_an_agent_does_not_even_reach_its_model(agent: AcpAgent, tmp_path: Path) -> None:
    need_own_network()
    need_agent(agent)

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agent], network="none"), tmp_path) as vm:
            await configure(vm, model)
            env = KEYS | {"CLAUDE_CODE_MAX_RETRIES": "0"}
            session = await vm.create_session(agent.name, env=env, public_env=["CLAUDE_CODE_MAX_RETRIES"])
            with pytest.raises(PromptFailed):
                await vm.send_prompt(session.session_id, "@say hello")
        assert model.bodies == []

    with serving() as model:
        asyncio.run(program(model))


def test_a_tool_server_is_reached_by_its_own_vm_alone(tmp_path: Path) -> None:
    need_own_network()

    async def program() -> None:
        opened, looked = asyncio.Event(), asyncio.Event()
        urls: list[str] = []

        async def keeps(session: Any, prompt: str) -> str:
            access = await session.open_tools()
            urls.append(access.url)
            opened.set()
            told = await session.exec(f"curl -s -o /dev/null -w '%{{http_code}}' {access.url}")
            await looked.wait()
            await access.aclose()
            return told.stdout

        async with Machine(agent_os(agents=[agents.function(keeps)], tools=[total], network="none"), tmp_path) as vm:
            session = await vm.create_session("keeps")
            prompt = asyncio.create_task(vm.send_prompt(session.session_id, "go"))
            await opened.wait()
            with socket.socket() as here:
                assert here.connect_ex(("127.0.0.1", urlsplit(urls[0]).port)) != 0
            other = vm.registry.host.client.vm.get_or_create(("other",))
            assert (await other.exec(f"curl -s {urls[0]}")).exit_code == 7
            looked.set()
            assert (await prompt).text == "401"

    asyncio.run(program())
