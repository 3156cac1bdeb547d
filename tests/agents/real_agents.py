"""What is shown with each real agent, against a model on loopback: a session, its model, its ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.values import IsolationMode
from agentq_nb.errors import AgentError, PromptFailed, RateLimited
from tests.agents.fake_llm import REFUSALS, FakeModel, serving
from tests.agents.running import all_gone, marked, new_mark
from tests.requirements import missing
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_only

PROJECT = Path(__file__).resolve().parents[2]
KEY = "sk-ant-not-a-real-key"
KEYS = dict.fromkeys(("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"), KEY)

KERNEL = """
import asyncio, json, sys
from pathlib import Path
from agentq_nb import agent_os, agents
from tests.agents.real_agents import KEYS, configure
from tests.unit.agent_os.machine import Machine

class Model:
    url = sys.argv[4]

async def program():
    name = sys.argv[2]
    async with Machine(agent_os(agents=[getattr(agents, name)], hosts=[Model.url]), Path(sys.argv[1])) as vm:
        await configure(vm, Model)
        session = await vm.create_session(name, env=KEYS | json.loads(sys.argv[3]))
        await vm.send_prompt(session.session_id, "@run tail -f /dev/null")

asyncio.run(program())
"""
"""Its words: a folder, the agent's name, a mark as JSON, and the model's address."""

IN_ITS_WORDS = {
    ("claude", 401): "Authentication required",
    ("codex", 500): "experiencing high demand",
}
"""What an agent says instead of the number or what came with it."""


def need_agent(agent: AcpAgent) -> None:
    """Go on only where this agent is installed."""
    check = agent.check()
    if not check:
        missing(f"The real {agent.name} cannot be driven here: {' '.join(check.missing)}")


async def configure(vm: Any, model: FakeModel, quiet: bool = True) -> None:
    """Where the agents find their model, in their own configuration files.

    ``quiet``: with what they ask for to call nobody else. Without, it is for us to see to that.
    """
    await vm.write_file(
        "/home/user/.pi/agent/models.json", json.dumps({"providers": {"anthropic": {"baseUrl": model.url}}})
    )
    chosen = {"defaultProvider": "anthropic", "defaultModel": "claude-sonnet-4-5", "retry": {"enabled": False}}
    await vm.write_file("/home/user/.pi/agent/settings.json", json.dumps(chosen))
    await vm.write_file("/home/user/.claude/settings.json", json.dumps({"env": {"ANTHROPIC_BASE_URL": model.url}}))
    await vm.write_file(
        "/home/user/.codex/config.toml",
        f"""
        model = "gpt-5"
        model_provider = "local"
        {"" if not quiet else "check_for_update_on_startup = false"}
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
    named = "anthropic/claude-sonnet-4-5"
    provider = {"anthropic": {"options": {"baseURL": f"{model.url}/v1"}}}
    silent = {"autoupdate": False, "share": "disabled"} if quiet else {}
    opencode = {**silent, "model": named, "small_model": named, "provider": provider}
    await vm.write_file("/home/user/.config/opencode/opencode.json", json.dumps(opencode))
    gemini = {
        "general": {"maxAttempts": 1} | ({"enableAutoUpdate": False} if quiet else {}),
        "model": {"name": "gemini-2.5-flash"},
        "privacy": {"usageStatisticsEnabled": False} if quiet else {},
        "security": {"auth": {"selectedType": "gemini-api-key"}},
    }
    await vm.write_file("/home/user/.gemini/settings.json", json.dumps(gemini))
    await vm.write_file("/home/user/.gemini/.env", f"GOOGLE_GEMINI_BASE_URL={model.url}\n")


def show_from_start_to_end(
    agent: AcpAgent, kind: isolation.IsolationKind, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts, writes a file, runs a command, answers again, is cancelled, still answers, and leaves no process."""
    use_only(kind, monkeypatch)
    mark = new_mark()

    async def program(model: FakeModel) -> None:
        mode = "off" if kind == "none" else "required"
        async with Machine(agent_os(agents=[agent], isolation=mode, hosts=[model.url]), folder) as vm:
            assert (await vm.isolation()).kind == kind
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=KEYS | mark)
            assert marked(mark)
            first = await vm.send_prompt(
                session.session_id, "@write hello.txt hello\n@run expr 40 + 2 > ran.txt\n@say both are there"
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
            assert not any("was restarted" in (event.text or "") for event in vm.events)
            await vm.close_session(session.session_id)
            assert marked(mark) == []
        assert any(KEY in key for key in model.keys)

    with serving() as model:
        asyncio.run(program(model))
    for path in folder.glob("nb.agentq.duckdb*"):
        assert KEY.encode() not in path.read_bytes(), path


def show_an_error_of_the_model(agent: AcpAgent, status: int, folder: Path) -> None:
    """The prompt fails with what the model said, even where the agent hides it; the next one is answered, after a limit's pause."""

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agent], hosts=[model.url]), folder) as vm:
            await configure(vm, model)
            env = KEYS | {"CLAUDE_CODE_MAX_RETRIES": "0"}
            session = await vm.create_session(agent.name, env=env, public_env=["CLAUDE_CODE_MAX_RETRIES"])
            says = IN_ITS_WORDS.get((agent.name, status), f"({status}|{REFUSALS[status]})")
            limited = status in (429, 529) or (agent.name, status) == ("codex", 500)
            advice = "asked its language model too often|is overloaded" if limited else "Check its key"
            with pytest.raises(RateLimited if limited else PromptFailed, match=rf"Agent '{agent.name}' .*") as failed:
                await vm.send_prompt(session.session_id, f"@run true\n@status {status}")
            assert re.search(says, str(failed.value)), failed.value
            assert re.search(advice, str(failed.value)), failed.value
            if limited:
                with pytest.raises(RateLimited, match="was not asked") as refused:
                    await vm.send_prompt(session.session_id, "@say too early")
                now = time.time()
                await asyncio.sleep((refused.value.ends_at(now) or now) - now)
            assert (await vm.send_prompt(session.session_id, "@say well again")).text.endswith("well again")
        assert not any("@say too early" in body for body in model.bodies)

    with serving() as model:
        asyncio.run(program(model))


def show_it_goes_on_after_a_restart(agent: AcpAgent, folder: Path) -> str | None:
    """It knows what was said before a restart, and tells it no second time. Gives how it took the session up again."""
    resumed: list[str | None] = []

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agent], hosts=[model.url]), folder) as vm:
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=KEYS, keep=True)
            await vm.send_prompt(session.session_id, "@run true\n@say the first answer")
            await vm.restart()
            with pytest.raises(PromptFailed, match="needs ANTHROPIC_API_KEY"):
                await vm.send_prompt(session.session_id, "@say too early")
            resumed.append((await vm.resume_session(session.session_id, env=KEYS)).resumed)
            result = await vm.send_prompt(session.session_id, "@say the second answer")
            assert result.text.endswith("the second answer")
            assert "the first answer" not in result.text
            events = await vm.session_events(session.session_id)
            told = "".join(event.text or "" for event in events if event.type == "text")
            assert told.count("the first answer") == told.count("the second answer") == 1
            assert sum(event.type == "tool_call" for event in events) == 1
            assert sum("was restarted" in (event.text or "") for event in events if event.type == "note") == 1
        assert any("the first answer" in body and "@say the second answer" in body for body in model.bodies)

    with serving() as model:
        asyncio.run(program(model))
    return resumed[0]


def show_the_chosen_model(agent: AcpAgent, wanted: str, folder: Path) -> None:
    """It tells which models it has, and asks the one that was chosen, in a later process too."""

    async def program(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agent], hosts=[model.url]), folder) as vm:
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=KEYS)
            assert wanted in session.models
            assert session.model not in (None, wanted)
            with pytest.raises(AgentError, match=rf"no model 'nonsense'\. It has: .*{wanted}"):
                await vm.set_model(session.session_id, "nonsense")
            assert (await vm.set_model(session.session_id, wanted)).model == wanted
            assert (await vm.send_prompt(session.session_id, "@say hello")).text.endswith("hello")
            await vm.sleep()
            assert (await vm.send_prompt(session.session_id, "@say again")).text.endswith("again")
            assert (await vm.get_session(session.session_id)).model == wanted
        rounds = list(zip(model.models, model.prompts, strict=True))
        for said in ("@say hello", "@say again"):
            assert any(wanted.rpartition("/")[2] in name and said in prompt for name, prompt in rounds)

    with serving() as model:
        asyncio.run(program(model))


def show_the_chosen_mode(
    agent: AcpAgent, mode: str, folder: Path, writes: bool, isolation: IsolationMode = "auto"
) -> None:
    """It works in the mode that was chosen: whether it ``writes`` a file where it would have to ask, and be told no."""

    async def program(model: FakeModel) -> None:
        async with Machine(
            agent_os(agents=[agent], permissions="deny", isolation=isolation, hosts=[model.url]), folder
        ) as vm:
            await configure(vm, model)
            session = await vm.create_session(agent.name, env=KEYS, mode=mode)
            assert session.mode == mode
            assert mode in session.modes
            await vm.send_prompt(session.session_id, "@write hello.txt hello\n@say did it")
            assert await vm.exists("hello.txt") is writes

    with serving() as model:
        asyncio.run(program(model))


def show_it_dies_with_the_kernel(agent: AcpAgent, folder: Path) -> None:
    """A kernel that is killed while a command of it runs leaves neither."""
    mark = new_mark()
    with serving() as model:
        words = [sys.executable, "-c", KERNEL, str(folder), agent.name, json.dumps(mark), model.url]
        with subprocess.Popen(words, cwd=PROJECT) as kernel:
            until = time.monotonic() + 120
            while not any(line.startswith(b"tail\0") for line in commands(mark)):
                assert kernel.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            kernel.send_signal(signal.SIGKILL)
        assert all_gone(mark)


def commands(mark: dict[str, str]) -> list[bytes]:
    """The command lines of the processes that carry the mark."""
    lines: list[bytes] = []
    for process in marked(mark):
        with suppress(OSError):
            lines.append(Path(f"/proc/{process}/cmdline").read_bytes())
    return lines
