"""Permissions that are left to the user: asked, waited for, answered, and ended whatever happens."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from agentq_nb import Actor, Queue, Retry
from agentq_nb.agent_os import PermissionRequest, SessionEvent, agent_os, agents
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.errors import PermissionAnswered, PermissionRequestUnknown, SessionUnknown, ValidationFailed
from tests.unit.agent_os.machine import Machine

SECRET = "sk-ant-0123456789abcdef"


async def asks(session: AgentSession, prompt: str) -> str:
    """An agent that asks before it does what it is told."""
    allowed = await session.ask(prompt, kind="execute", tool_call={"command": prompt})
    return "done" if allowed else "left alone"


ASKS = agents.function(asks)


def machine(folder: Path, agent: Any = ASKS, **options: Any) -> Machine:
    return Machine(agent_os(agents=[agent], **{"permissions": "ask", **options}), folder)


def listen(vm: Machine) -> Callable[[], Any]:
    """``await heard()`` gives the next request that the VM broadcasts."""
    requests: asyncio.Queue[PermissionRequest] = asyncio.Queue()
    vm.registry.host.listen(vm.actor_id, "permission_request", requests.put_nowait)
    return lambda: asyncio.wait_for(requests.get(), 30)


async def permissions(vm: Machine, session_id: str) -> list[SessionEvent]:
    return [event for event in await vm.session_events(session_id) if event.type.startswith("permission_")]


async def ended_by(vm: Machine, session_id: str) -> list[tuple[str, str]]:
    """How requests ended: the answer and who gave it."""
    events = await permissions(vm, session_id)
    return [(event.data["answer"], event.data["by"]) for event in events if event.type == "permission_answer"]


@pytest.mark.anyio
@pytest.mark.parametrize(("answer", "text"), [("allow", "done"), ("deny", "left alone")])
async def test_a_user_answers_and_the_agent_goes_on(answer: str, text: str, tmp_path: Path) -> None:
    async with machine(tmp_path) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("asks")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm -r build"))
        request = await heard()
        assert (request.session_id, request.agent, request.title) == (session_id, "asks", "rm -r build")
        assert (request.kind, request.tool_call) == ("execute", {"command": "rm -r build"})
        assert await vm.list_permission_requests() == [request]
        assert not prompting.done()
        await vm.respond_permission(session_id, request.request_id, answer)
        assert (await prompting).text == text
        assert await vm.list_permission_requests() == []
        events = await vm.session_events(session_id)
        types = ["prompt", "permission_request", "permission_answer", "text", "result"]
        assert [event.type for event in events] == types
        assert events[1].text == "rm -r build"
        told = {"request_id": request.request_id, "kind": "execute", "tool_call": {"command": "rm -r build"}}
        assert events[1].data == told
        assert events[2].text == f"permission for rm -r build: {answer}"
        assert events[2].data == {"request_id": request.request_id, "answer": answer, "by": "user"}


@pytest.mark.anyio
async def test_a_request_is_on_disk_before_it_is_told_and_its_answer_before_the_agent_goes_on(tmp_path: Path) -> None:
    then: list[list[str]] = []

    async def look(session: AgentSession, prompt: str) -> None:
        await session.ask("look")
        then.append([row["type"] for row in vm.on_disk() if "type" in row])

    async with machine(tmp_path, agents.function(look)) as vm:
        heard = asyncio.Queue[PermissionRequest]()

        def told(request: PermissionRequest) -> None:
            then.append([row["type"] for row in vm.on_disk() if "type" in row])
            heard.put_nowait(request)

        vm.registry.host.listen(vm.actor_id, "permission_request", told)
        session_id = (await vm.create_session("look")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "go"))
        await vm.respond_permission(session_id, (await heard.get()).request_id, "allow")
        await prompting
    assert then == [["prompt", "permission_request"], ["prompt", "permission_request", "permission_answer"]]


@pytest.mark.anyio
async def test_nobody_answers_in_time_is_a_no_and_the_transcript_says_so(tmp_path: Path) -> None:
    async with machine(tmp_path, permission_timeout=0.05) as vm:
        session_id = (await vm.create_session("asks")).session_id
        assert (await vm.send_prompt(session_id, "rm")).text == "left alone"
        request, answer = await permissions(vm, session_id)
        assert answer.text == "permission for rm: deny (nobody answered within 0.05 s)"
        assert answer.data == {"request_id": request.data["request_id"], "answer": "deny", "by": "timeout"}
        with pytest.raises(PermissionAnswered, match="nobody answered within"):
            await vm.respond_permission(session_id, request.data["request_id"], "allow")


@pytest.mark.anyio
async def test_answering_twice_at_once_gives_the_second_an_error(tmp_path: Path) -> None:
    async with machine(tmp_path) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("asks")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        request_id = (await heard()).request_id
        answers = [vm.respond_permission(session_id, request_id, answer) for answer in ("allow", "deny")]
        first, second = await asyncio.gather(*answers, return_exceptions=True)
        assert first is None
        assert isinstance(second, PermissionAnswered)
        assert "permission for rm: allow" in str(second)
        assert (await prompting).text == "done"
        assert await ended_by(vm, session_id) == [("allow", "user")]
        await vm.close_session(session_id)
        with pytest.raises(PermissionAnswered):
            await vm.respond_permission(session_id, request_id, "deny")


@pytest.mark.anyio
async def test_what_is_no_answer_or_names_no_request_is_a_clear_error(tmp_path: Path) -> None:
    async with machine(tmp_path) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("asks")).session_id
        other = (await vm.create_session("asks")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        request_id = (await heard()).request_id
        for word in ("yes", "", None, True, "ALLOW"):
            with pytest.raises(ValidationFailed, match="'allow' or 'deny'"):
                await vm.respond_permission(session_id, request_id, word)
        for no_such in ("", "x" * 10_000, other, "\ud800"):
            with pytest.raises(PermissionRequestUnknown, match="list_permission_requests"):
                await vm.respond_permission(session_id, no_such, "allow")
        with pytest.raises(PermissionRequestUnknown):
            await vm.respond_permission(other, request_id, "allow")
        with pytest.raises(SessionUnknown):
            await vm.respond_permission("no-session", request_id, "allow")
        await vm.respond_permission(session_id, request_id, "allow")
        await prompting


async def _decides(answer: str, request: PermissionRequest) -> str:
    return answer


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "text", "by"),
    [
        ("allow", "done", "setting"),
        ("deny", "left alone", "setting"),
        (lambda request: "allow", "done", "function"),
        (lambda request: _decides("deny", request), "left alone", "function"),
        (lambda request: "perhaps", "left alone", "function"),
        (lambda request: _decides("ask", request), "done", "user"),
        (lambda request: "allow" if request.kind == "execute" else "ask", "done", "function"),
    ],
)
async def test_words_and_functions_decide_and_may_leave_it_to_the_user(
    given: Any, text: str, by: str, tmp_path: Path
) -> None:
    async with machine(tmp_path, permissions=given) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("asks")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        if by == "user":
            await vm.respond_permission(session_id, (await heard()).request_id, "allow")
        assert (await prompting).text == text
        assert await ended_by(vm, session_id) == [("allow" if text == "done" else "deny", by)]
        assert [event.type for event in await permissions(vm, session_id)].count("permission_request") == (by == "user")


@pytest.mark.anyio
async def test_cancelling_the_prompt_ends_its_request_as_refused(tmp_path: Path) -> None:
    async with machine(tmp_path) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("asks")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        request = await heard()
        await vm.cancel_prompt(session_id)
        assert (await prompting).stop_reason == "cancelled"
        assert await vm.list_permission_requests() == []
        assert await ended_by(vm, session_id) == [("deny", "cancelled")]
        assert [event.type for event in await vm.session_events(session_id)][-2:] == ["permission_answer", "result"]
        with pytest.raises(PermissionAnswered, match="prompt was cancelled"):
            await vm.respond_permission(session_id, request.request_id, "allow")
        prompting = asyncio.create_task(vm.send_prompt(session_id, "again"))
        await vm.respond_permission(session_id, (await heard()).request_id, "allow")
        assert (await prompting).text == "done"


@pytest.mark.anyio
async def test_closing_the_session_ends_its_request_as_refused(tmp_path: Path) -> None:
    async with machine(tmp_path) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("asks")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        await heard()
        await vm.close_session(session_id)
        assert (await prompting).stop_reason == "cancelled"
        assert await ended_by(vm, session_id) == [("deny", "cancelled")]


@pytest.mark.anyio
async def test_a_plain_function_asks_from_its_thread_and_is_not_left_waiting(tmp_path: Path) -> None:
    ended = threading.Event()

    def plain(session: AgentSession, prompt: str) -> str:
        try:
            return "done" if anyio.from_thread.run(session.ask, prompt) else "left alone"
        finally:
            ended.set()

    async with machine(tmp_path, agents.function(plain)) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("plain")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        await vm.respond_permission(session_id, (await heard()).request_id, "allow")
        assert (await prompting).text == "done"
        ended.clear()
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        await heard()
        await vm.cancel_prompt(session_id)
        assert (await prompting).stop_reason == "cancelled"
        assert await asyncio.to_thread(ended.wait, 30)
        assert await ended_by(vm, session_id) == [("allow", "user"), ("deny", "cancelled")]


@pytest.mark.anyio
async def test_what_a_prompt_leaves_behind_ends_with_it_and_asks_no_more(tmp_path: Path) -> None:
    later: list[asyncio.Task[bool]] = []

    async def leaves(session: AgentSession, prompt: str) -> str:
        asked = asyncio.create_task(session.ask("first"))
        later.append(asked)
        await heard()

        async def afterwards() -> bool:
            await asyncio.wait({asked})
            await ended.wait()
            return await session.ask("second")

        later.append(asyncio.create_task(afterwards()))
        return "I did not wait"

    ended = asyncio.Event()
    async with machine(tmp_path, agents.function(leaves)) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("leaves")).session_id
        assert (await vm.send_prompt(session_id, "go")).text == "I did not wait"
        ended.set()
        assert [await asked for asked in later] == [False, False]
        types = [event.type for event in await vm.session_events(session_id)]
        assert types == ["prompt", "permission_request", "text", "permission_answer", "result"]


@pytest.mark.anyio
async def test_a_hundred_requests_wait_at_once_and_the_loop_stays_responsive(tmp_path: Path) -> None:
    async with machine(tmp_path) as vm:
        heard = listen(vm)
        ids = [(await vm.create_session("asks")).session_id for _ in range(100)]
        prompting = [asyncio.create_task(vm.send_prompt(session_id, "rm")) for session_id in ids]
        requests = [await heard() for _ in ids]
        waiting = await vm.list_permission_requests()
        assert {request.request_id for request in waiting} == {request.request_id for request in requests}
        answers = [("allow", "deny")[number % 2] for number in range(100)]
        answering = zip(requests, answers, strict=True)
        await asyncio.gather(*(vm.respond_permission(r.session_id, r.request_id, answer) for r, answer in answering))
        texts = dict(zip(ids, [result.text for result in await asyncio.gather(*prompting)], strict=True))
        assert [texts[r.session_id] for r in requests] == ["done", "left alone"] * 50


@pytest.mark.anyio
async def test_an_agent_may_ask_several_things_at_once(tmp_path: Path) -> None:
    async def several(session: AgentSession, prompt: str) -> str:
        return " ".join(map(str, await asyncio.gather(*(session.ask(word) for word in prompt.split()))))

    async with machine(tmp_path, agents.function(several)) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("several")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "a b c"))
        requests = [await heard() for _ in range(3)]
        for request in reversed(requests):
            await vm.respond_permission(session_id, request.request_id, "allow" if request.title == "b" else "deny")
        assert (await prompting).text == "False True False"


@pytest.mark.anyio
async def test_secrets_are_in_no_request(tmp_path: Path) -> None:
    given: list[PermissionRequest] = []

    def function(request: PermissionRequest) -> str:
        given.append(request)
        return "ask"

    async def tells(session: AgentSession, prompt: str) -> str:
        key = session.env["API_KEY"]
        await session.ask(f"use {key}\0\ud800", tool_call={key: [f"--key={key}"]})
        return "done"

    async with machine(tmp_path, agents.function(tells), permissions=function) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("tells", env={"API_KEY": SECRET})).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "go"))
        request = await heard()
        assert SECRET not in repr([given, request, await vm.list_permission_requests(), vm.events])
        assert given == [request]
        assert request.title == "use [redacted API_KEY]\u2400?"
        await vm.respond_permission(session_id, request.request_id, "allow")
        await prompting
        assert SECRET not in json.dumps(vm.on_disk())
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


class Job(Actor):
    """Sends prompts to an agent that asks."""

    work = Queue(str, handler_timeout=0.5, retry=Retry(attempts=1))

    async def run(self) -> None:
        vm = self.actors.vm.get_or_create(["a"])
        session = await vm.create_session("asks")
        async for message in self.queue.iter():
            await vm.send_prompt(session.session_id, message.body)


@pytest.mark.anyio
async def test_a_handlers_time_limit_goes_on_while_a_request_waits(tmp_path: Path) -> None:
    async with Machine(agent_os(agents=[ASKS], permissions="ask"), tmp_path, job=Job) as vm:
        heard = listen(vm)
        receipt = await vm.actor("job").send("work", "rm")
        request = await heard()
        result = await receipt.result(timeout=30)
        assert result.status == "failed"
        assert "handler_timeout" in str(result.error)
        assert await vm.list_permission_requests() == []
        assert await ended_by(vm, request.session_id) == [("deny", "cancelled")]


@pytest.mark.anyio
async def test_a_vm_does_not_sleep_while_a_request_waits(tmp_path: Path) -> None:
    asleep: list[str] = []

    class Sleepy(agent_os(agents=[ASKS], permissions="ask"), sleep_timeout=0.05):  # type: ignore[misc]
        async def on_sleep(self) -> None:
            asleep.append(self.actor_id)
            await super().on_sleep()

    async with Machine(Sleepy, tmp_path) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("asks", keep=True)).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        request = await heard()
        before = len(asleep)
        await asyncio.sleep(0.3)
        assert len(asleep) == before
        await vm.respond_permission(session_id, request.request_id, "allow")
        assert (await prompting).text == "done"


@pytest.mark.anyio
async def test_a_vm_that_is_asked_to_end_refuses_what_waits_since_nobody_can_answer_it(tmp_path: Path) -> None:
    async with machine(tmp_path) as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("asks", keep=True)).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        await heard()
        await vm.registry.deploy("vm", agent_os(agents=[ASKS], permissions="allow"))
        assert (await prompting).text == "left alone"
        assert await ended_by(vm, session_id) == [("deny", "cancelled")]
        assert (await vm.send_prompt(session_id, "rm")).text == "done"


@pytest.mark.anyio
async def test_a_host_that_stops_ends_requests_and_they_are_no_ghosts_afterwards(tmp_path: Path) -> None:
    vm = machine(tmp_path)
    async with vm:
        heard = listen(vm)
        session_id = (await vm.create_session("asks", keep=True)).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        await heard()
    await asyncio.wait({prompting})
    async with vm:
        assert await vm.list_permission_requests() == []
        assert await ended_by(vm, session_id) == [("deny", "cancelled")]
