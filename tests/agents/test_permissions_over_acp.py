"""Coding agents over ACP that ask before they act: the user's answer reaches them, and no request outlives its prompt."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import NoReturn

import pytest

from agentq_nb.agent_os import PermissionRequest, agent_os, agents
from agentq_nb.errors import PromptFailed
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.test_acp_agents import KEY, configure, need_agent
from tests.agents.test_acp_faults import machine
from tests.agents.test_permissions import ended_by, listen
from tests.unit.agent_os.machine import Machine


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ["allow", "deny"])
async def test_the_users_answer_reaches_the_agent(answer: str, tmp_path: Path) -> None:
    async with machine(tmp_path, permissions="ask") as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("stub")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "ask"))
        request = await heard()
        assert (request.title, request.kind, request.agent) == ("rm -rf /", "execute", "stub")
        assert request.tool_call["toolCallId"] == "7"
        await vm.respond_permission(session_id, request.request_id, answer)
        option = {"allow": "id-allow_once", "deny": "id-reject_once"}[answer]
        assert json.loads((await prompting).text) == {"outcome": "selected", "optionId": option}
        assert await ended_by(vm, session_id) == [(answer, "user")]


@pytest.mark.anyio
async def test_what_was_told_of_a_tool_call_before_it_is_asked_about_is_part_of_the_request(tmp_path: Path) -> None:
    async with machine(tmp_path, permissions="ask") as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("stub")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "ask_briefly print(1)"))
        request = await heard()
        assert (request.title, request.kind) == ("Write new.py", "edit")
        assert request.text == "Write new.py\n\nnew file /home/user/new.py:\n+print(1)"
        assert await vm.list_permission_requests() == [request]
        await vm.respond_permission(session_id, request.request_id, "allow")
        await prompting


@pytest.mark.anyio
async def test_an_agent_whose_prompt_is_cancelled_is_told_that_its_request_is(tmp_path: Path) -> None:
    async with machine(tmp_path, permissions="ask") as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("stub")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "ask"))
        await heard()
        await vm.cancel_prompt(session_id)
        result = await prompting
        assert (json.loads(result.text), result.stop_reason) == ({"outcome": "cancelled"}, "cancelled")
        assert await ended_by(vm, session_id) == [("deny", "cancelled")]
        assert await vm.list_permission_requests() == []
        assert json.loads((await vm.send_prompt(session_id, "hello")).text)[0] == "hello"


@pytest.mark.anyio
async def test_an_agent_that_dies_while_it_waits_leaves_no_request(tmp_path: Path) -> None:
    async with machine(tmp_path, permissions="ask") as vm:
        session_id = (await vm.create_session("stub")).session_id
        with pytest.raises(PromptFailed, match="in the middle of a prompt"):
            await vm.send_prompt(session_id, "ask_and_die")
        assert await vm.list_permission_requests() == []
        assert await ended_by(vm, session_id) == [("deny", "cancelled")]
        types = [event.type for event in await vm.session_events(session_id)]
        assert types == ["prompt", "permission_request", "permission_answer", "error"]


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ["allow", "deny"])
async def test_the_real_claude_asks_before_it_edits_and_runs_and_keeps_to_the_answer(
    answer: str, tmp_path: Path
) -> None:
    need_agent(agents.claude)

    async def converse(model: FakeModel) -> None:
        async with Machine(agent_os(agents=[agents.claude], permissions="ask", hosts=[model.url]), tmp_path) as vm:
            await configure(vm, model)
            heard = listen(vm)
            session_id = (await vm.create_session("claude", env={"ANTHROPIC_API_KEY": KEY})).session_id
            ran = f"touch ran.txt; {': nothing more; ' * 400}true"
            script = f"@write hello.txt hello\n@run {ran}\n@say both are there"
            prompting = asyncio.create_task(vm.send_prompt(session_id, script))
            for kind in ("edit", "execute"):
                request = await heard()
                assert request.kind == kind
                assert ("+hello" if kind == "edit" else ran) in request.text.split("\n")
                assert not await vm.exists("hello.txt" if kind == "edit" else "ran.txt")
                await vm.respond_permission(session_id, request.request_id, answer)
            await prompting
            assert [await vm.exists(name) for name in ("hello.txt", "ran.txt")] == [answer == "allow"] * 2
            assert set(await ended_by(vm, session_id)) == {(answer, "user")}

    with serving() as model:
        await converse(model)


@pytest.mark.anyio
async def test_an_agent_gets_its_answer_when_the_function_that_should_give_one_fails(tmp_path: Path) -> None:
    async def stops(request: PermissionRequest) -> NoReturn:
        raise SystemExit(3)

    async with machine(tmp_path, permissions=stops) as vm:
        session_id = (await vm.create_session("stub")).session_id
        answer = json.loads((await asyncio.wait_for(vm.send_prompt(session_id, "ask"), 30)).text)
        assert answer == {"outcome": "selected", "optionId": "id-reject_once"}
        assert await ended_by(vm, session_id) == [("deny", "function")]
