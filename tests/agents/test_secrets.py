"""A secret that an agent is given, or that the kernel holds, is in nothing that is stored or shown, whoever tells it.

What is not promised: secrets of fewer than eight characters, one that is told in another spelling (base64, backwards, a
character a line), the files that an agent writes itself, and bodies and replies that a program makes from those.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import traceback
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, Queue, Retry, agents, create_client, setup
from agentq_nb.agent_os import PermissionRequest, agent_os
from agentq_nb.errors import AgentError, AgentqError, PromptFailed
from tests.agents.searching import assert_not_stored, assert_nowhere
from tests.agents.test_acp_faults import SECRET, machine, stub
from tests.unit.agent_os.machine import Machine

KERNELS = "kernel-held-0123456789"
"""In the environment of the process, given to nobody."""


@pytest.fixture(autouse=True)
def held_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", KERNELS)


async def failed(call: Awaitable[Any], error: type[AgentqError] = AgentqError) -> str:
    """All that can be seen of the error that a call raises."""
    with pytest.raises(error) as caught:
        await call
    shown = "".join(traceback.format_exception(caught.value))
    return f"{shown}{caught.value!r}{caught.value.metadata!r}{caught.value.__dict__!r}"


@pytest.mark.parametrize("verb", ["tell_and_die API_KEY", "refuse_with_key", "answer_with_key"])
def test_an_agent_that_fails_and_quotes_its_key(verb: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def program() -> str:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub", env={"API_KEY": SECRET})
            return await failed(vm.send_prompt(session.session_id, verb), PromptFailed) + repr(vm.events)

    shown = asyncio.run(program())
    assert "[redacted API_KEY]" in shown
    assert_nowhere([SECRET], shown + caplog.text)
    assert_not_stored([SECRET], tmp_path)


def test_an_agent_that_quotes_its_key_instead_of_getting_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def program() -> str:
        async with machine(tmp_path, "babble") as vm:
            return await failed(vm.create_session("stub", env={"API_KEY": SECRET}), AgentError)

    shown = asyncio.run(program())
    assert "[redacted API_KEY]" in shown
    assert_nowhere([SECRET], shown + caplog.text)
    assert_not_stored([SECRET], tmp_path)


def test_a_function_that_fails_with_a_key_it_was_given_or_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def careless(session: Any, prompt: str) -> str:
        if prompt == "given":
            raise RuntimeError(f"401 for {session.env['API_KEY']} of {session}")
        if prompt == "held":
            raise RuntimeError(f"401 for {os.environ['SOME_API_KEY']}")
        return f"{session} {session.env['API_KEY']} {os.environ['SOME_API_KEY']}"

    async def program() -> str:
        async with Machine(agent_os(agents=[agents.function(careless)]), tmp_path) as vm:
            session = await vm.create_session("careless", env={"API_KEY": SECRET})
            shown = await failed(vm.send_prompt(session.session_id, "given"))
            shown += await failed(vm.send_prompt(session.session_id, "held"))
            told = await vm.send_prompt(session.session_id, "tell")
            assert told.text.endswith("[redacted API_KEY] [redacted SOME_API_KEY]")
            return shown + repr(told) + repr(vm.events) + repr(await vm.transcript(session.session_id))

    shown = asyncio.run(program())
    assert_nowhere([SECRET, KERNELS], shown + caplog.text)
    assert_not_stored([SECRET, KERNELS], tmp_path)


def test_a_handler_that_fails_with_a_key_or_on_the_line_that_has_it(tmp_path: Path) -> None:
    class Worker(Actor):
        tasks = Queue(str, retry=Retry(attempts=1))

        async def run(self) -> None:
            vm = self.actors.vm.get_or_create("v")
            async for message in self.queue.iter():
                if message.body == "held":
                    raise RuntimeError(f"401 for {os.environ['SOME_API_KEY']}")
                session = await vm.create_session("stub", env={"API_KEY": "sk-ant-0123456789abcdef"})
                await vm.send_prompt(session.session_id, "refuse_with_key"), "sk-ant-0123456789abcdef"

    async def program() -> str:
        use = {"worker": Worker, "vm": agent_os(agents=[stub()])}
        async with setup(use=use, store=tmp_path / "nb.agentq.duckdb") as registry:
            worker = create_client().worker.get_or_create("w")
            results = [await worker.send("tasks", body, wait=True, timeout=60) for body in ("held", "line")]
            assert [result.status for result in results] == ["failed", "failed"]
            assert "Internal error (401 [redacted API_KEY])" in str(results[1].error)
            assert "in run" in str(results[1].error)
            rows = await registry.sql("select * from attempts")
            return repr(results) + repr(await worker.status()) + repr(registry) + repr(rows)

    assert_nowhere([SECRET, KERNELS], asyncio.run(program()))
    assert_not_stored([SECRET, KERNELS], tmp_path)


def test_a_request_for_permission_reaches_nobody_with_its_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[PermissionRequest] = []

    def careless(request: PermissionRequest) -> str:
        asked.append(request)
        raise ValueError(f"What is {request.title}?")

    async def program() -> str:
        async with machine(tmp_path, permissions=careless) as vm:
            session = await vm.create_session("stub", env={"API_KEY": SECRET})
            result = await vm.send_prompt(session.session_id, "ask_with_key")
            return repr(result) + repr(vm.events)

    shown = asyncio.run(program())
    assert asked[0].title == "curl -H [redacted API_KEY]"
    assert_nowhere([SECRET], shown + repr(asked) + caplog.text)
    assert_not_stored([SECRET], tmp_path)


def test_a_tool_of_the_notebook_that_quotes_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def lookup(what: str) -> str:
        """Look something up."""
        if what == "error":
            raise RuntimeError(f"401 for {os.environ['SOME_API_KEY']}")
        return f"{what}: {os.environ['SOME_API_KEY']}"

    async def asking(session: Any, prompt: str) -> Any:
        yield str(await session.tools["lookup"](what=session.env["API_KEY"]))
        with contextlib.suppress(Exception):
            await session.tools["lookup"](what="error")

    async def program() -> str:
        async with Machine(agent_os(agents=[agents.function(asking)], tools=[lookup]), tmp_path) as vm:
            session = await vm.create_session("asking", env={"API_KEY": SECRET})
            told = await vm.send_prompt(session.session_id, "go")
            assert told.text == "[redacted API_KEY]: [redacted SOME_API_KEY]"
            return repr(told) + repr(vm.events)

    shown = asyncio.run(program())
    assert "401 for [redacted SOME_API_KEY]" in shown
    assert_nowhere([SECRET, KERNELS], shown + caplog.text)
    assert_not_stored([SECRET, KERNELS], tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"env": SECRET},
        {"env": [SECRET]},
        {"env": {"API_KEY": [SECRET]}},
        {"env": {"API_KEY": f"{SECRET}\0"}},
        {"env": {"API=KEY": SECRET}},
        {"environment": {"API_KEY": SECRET}},
        {"env": {"API_KEY": SECRET}, "cwd": "missing"},
        {"env": {"API_KEY": SECRET}, "keep": "perhaps"},
        {"env": {"API_KEY": SECRET}, "mode": "unheard of"},
        {
            "mcp_servers": [
                {"name": "far", "url": "http://127.0.0.1:1/", "headers": {"Authorization": f"Bearer {SECRET}"}}
            ]
        },
        {"mcp_servers": [{"name": "near", "command": "no-such", "env": {"API_KEY": SECRET}, "cwd": SECRET}]},
    ],
    ids=str,
)
def test_what_is_wrong_with_an_environment_is_told_without_its_values(
    arguments: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def program() -> str:
        async with machine(tmp_path) as vm:
            return await failed(vm.create_session("stub", **arguments))

    assert_nowhere([SECRET], asyncio.run(program()) + caplog.text)
    assert_not_stored([SECRET], tmp_path)
