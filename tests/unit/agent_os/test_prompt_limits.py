"""Prompts start under the limits of ``agent_os(limits=[...])``, and a limit's ``scope`` pauses queues and prompts together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, ConcurrencyLimit, Queue, RateLimit, agents
from agentq_nb._brokers.local.limit_rows import LimitFacts
from agentq_nb.agent_os import VM, PromptResult, agent_os
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.errors import LimitConflict, RateLimited, WaitWouldDeadlock
from tests.unit.agent_os.machine import Machine

LONG = 3600.0


class Model:
    """Counts what it is asked, and answers once it may, or raises what it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.limit: RateLimited | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._called = asyncio.Event()

    async def until_asked(self, times: int) -> None:
        while len(self.asked) < times:
            self._called.clear()
            await self._called.wait()

    def vm(self, *limits: RateLimit | ConcurrencyLimit) -> type[VM]:
        async def claude(session: AgentSession, prompt: str) -> str:
            self.asked.append(prompt)
            self._called.set()
            await self.may_answer.wait()
            if self.limit is not None:
                raise self.limit
            return "done"

        return agent_os(agents=[agents.function(claude)], limits=limits)


def task_of(awaitable: Awaitable[Any]) -> asyncio.Task[Any]:
    return asyncio.ensure_future(awaitable)  # type: ignore[return-value]  # it is a coroutine


async def until(is_so: Callable[[], bool]) -> None:
    """Until this is so. A limit tells nobody who waits for it, so it is looked at again and again."""
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def waiting_for(vm: Machine, limit: str, queues: int = 1) -> None:
    """Until so many queues, or VMs, wait for the limit."""
    await until(lambda: vm.registry.limits[limit].waiting == queues)


async def in_vm(
    folder: Path, cls: Callable[[Model], type[VM]], program: Callable[[Machine, Model], Awaitable[None]], **others: Any
) -> None:
    model = Model()
    async with Machine(cls(model), folder, **others) as vm:
        await program(vm, model)


# --- limits of prompts ------------------------------------------------------------------------------------------------


def test_prompts_of_sessions_wait_in_order_for_a_place(tmp_path: Path) -> None:
    async def program(vm: Machine, model: Model) -> None:
        model.may_answer.clear()
        sessions = [await vm.create_session("claude") for _ in range(4)]
        prompts: list[asyncio.Task[PromptResult]] = []
        for number, session in enumerate(sessions):
            prompts.append(task_of(vm.send_prompt(session.session_id, str(number))))
            if number == 0:
                await model.until_asked(1)
                assert vm.registry.limits["model"].used == 1
            elif number == 1:
                await waiting_for(vm, "model")
        assert model.asked == ["0"]
        model.may_answer.set()
        assert [(await prompt).text for prompt in prompts] == ["done"] * 4
        assert model.asked == ["0", "1", "2", "3"]
        assert vm.registry.limits["model"].used == 0

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(ConcurrencyLimit(1, name="model")), program))


def test_a_limit_without_a_name_is_for_each_vm_alone(tmp_path: Path) -> None:
    async def program(vm: Machine, model: Model) -> None:
        model.may_answer.clear()
        other = vm.registry.host.client.vm.get_or_create("b")
        first, second = await vm.create_session("claude"), await other.create_session("claude")
        prompts = [
            task_of(vm.send_prompt(first.session_id, "a")),
            task_of(other.send_prompt(second.session_id, "b")),
        ]
        await model.until_asked(2)
        assert [vm.registry.limits[f"vm/{key} $prompts"].used for key in "ab"] == [1, 1]
        model.may_answer.set()
        await asyncio.gather(*prompts)

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(ConcurrencyLimit(1)), program))


def test_a_prompt_that_waits_for_a_place_is_cancelled_and_never_sent(tmp_path: Path) -> None:
    async def program(vm: Machine, model: Model) -> None:
        model.may_answer.clear()
        first, second, third = [await vm.create_session("claude") for _ in range(3)]
        at_work = task_of(vm.send_prompt(first.session_id, "a"))
        await model.until_asked(1)
        waits = task_of(vm.send_prompt(second.session_id, "b"))
        await waiting_for(vm, "model")
        last = task_of(vm.send_prompt(third.session_id, "c"))
        assert await vm.cancel_prompt(second.session_id)
        assert (await waits).stop_reason == "cancelled"
        model.may_answer.set()
        assert [(await prompt).text for prompt in (at_work, last)] == ["done", "done"]
        assert model.asked == ["a", "c"]
        assert vm.registry.limits["model"].used == 0

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(ConcurrencyLimit(1, name="model")), program))


def test_closing_a_session_ends_its_wait_for_a_place(tmp_path: Path) -> None:
    async def program(vm: Machine, model: Model) -> None:
        model.may_answer.clear()
        first, second = await vm.create_session("claude"), await vm.create_session("claude")
        at_work = task_of(vm.send_prompt(first.session_id, "a"))
        await model.until_asked(1)
        waits = task_of(vm.send_prompt(second.session_id, "b"))
        await waiting_for(vm, "model")
        await vm.close_session(second.session_id)
        assert (await waits).stop_reason == "cancelled"
        model.may_answer.set()
        assert ((await at_work).text, model.asked) == ("done", ["a"])

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(ConcurrencyLimit(1, name="model")), program))


def test_a_prompt_at_work_keeps_its_place_when_limits_are_loaded_again(tmp_path: Path) -> None:
    async def program(vm: Machine, model: Model) -> None:
        model.may_answer.clear()
        session = await vm.create_session("claude")
        at_work = task_of(vm.send_prompt(session.session_id, "a"))
        await model.until_asked(1)
        broker: Any = vm.registry.host.broker
        limits = broker._commit_log.live_messages.limits
        limits.fill(limits._actors, LimitFacts())  # as after a failed write
        assert vm.registry.limits["model"].used == 1
        model.may_answer.set()
        assert (await at_work).text == "done"
        assert vm.registry.limits["model"].used == 0

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(ConcurrencyLimit(1, name="model")), program))


def test_starts_of_prompts_are_durable_and_count_after_a_restart_together_with_a_queues(tmp_path: Path) -> None:
    limit = RateLimit(3, per=LONG, name="api")

    class Worker(Actor):
        tasks = Queue(str, limits=[limit])

        @tasks.handler
        async def work(self, body: str) -> None: ...

    async def program(vm: Machine, model: Model) -> None:
        await (await vm.actor("worker").send("tasks", "one")).result(30)
        for number in range(2):
            session = await vm.create_session("claude", keep=True)
            await vm.send_prompt(session.session_id, str(number))
        assert vm.registry.limits["api"].used == 3
        await vm.restart()
        assert vm.registry.limits["api"].used == 3
        session = await vm.create_session("claude")
        waits = task_of(vm.send_prompt(session.session_id, "too many"))
        await waiting_for(vm, "api")
        await vm.registry.limits.change("api", count=4)
        assert (await waits).text == "done"
        assert model.asked == ["0", "1", "too many"]
        assert vm.registry.limits["api"].used == 4

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(limit), program, worker=Worker))


def test_prompts_and_messages_are_served_oldest_first(tmp_path: Path) -> None:
    limit = ConcurrencyLimit(1, name="places")
    model: list[Model] = []

    class Worker(Actor):
        tasks = Queue(str, limits=[limit])

        @tasks.handler
        async def work(self, body: str) -> None:
            model[0].asked.append(body)

    async def program(vm: Machine, one: Model) -> None:
        model.append(one)
        one.may_answer.clear()
        first, second = await vm.create_session("claude"), await vm.create_session("claude")
        prompts = [task_of(vm.send_prompt(first.session_id, "1"))]
        await one.until_asked(1)
        older = await vm.actor("worker").send("tasks", "2")
        await waiting_for(vm, "places")
        prompts.append(task_of(vm.send_prompt(second.session_id, "3")))
        await waiting_for(vm, "places", 2)
        one.may_answer.set()
        await asyncio.gather(*prompts, older.result(30))
        assert one.asked == ["1", "2", "3"]

    asyncio.run(in_vm(tmp_path, lambda one: one.vm(limit), program, worker=Worker))


def test_a_prompt_that_needs_the_place_of_its_own_message_is_refused(tmp_path: Path) -> None:
    limit = ConcurrencyLimit(1, name="places")
    refused: list[WaitWouldDeadlock] = []

    class Worker(Actor):
        tasks = Queue(str, limits=[limit])

        @tasks.handler
        async def work(self, body: str) -> None:
            vm = self.actors.vm.get_or_create("a")
            session = await vm.create_session("claude")
            try:
                await vm.send_prompt(session.session_id, body)
            except WaitWouldDeadlock as error:
                refused.append(error)

    async def program(vm: Machine, model: Model) -> None:
        result = await (await vm.actor("worker").send("tasks", "go")).result(30)
        assert result.status == "completed"
        assert [error.code for error in refused] == ["wait_would_deadlock"]
        assert "limit 'places'" in str(refused[0])
        assert "agent_os(limits=[...])" in str(refused[0])
        assert model.asked == []

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(limit), program, worker=Worker))


def test_limits_of_a_vm_and_of_queues_must_agree(tmp_path: Path) -> None:
    class Worker(Actor):
        tasks = Queue(str, limits=[RateLimit(5, per=60, name="api")])

    async def program() -> None:
        with pytest.raises(LimitConflict, match="prompts"):
            async with Machine(Model().vm(RateLimit(6, per=60, name="api")), tmp_path, worker=Worker):
                pass

    asyncio.run(program())
    with pytest.raises(TypeError, match=r"agent_os\(limits="):
        agent_os(limits=["fast"])  # type: ignore[list-item]  # what is refused


def test_a_subclass_of_a_vm_keeps_its_limits() -> None:
    class Sub(Model().vm(ConcurrencyLimit(2, name="api"))):  # type: ignore[misc]  # a class made by a call
        tasks = Queue(str)

    assert Sub.declared.limits == {"$prompts": (ConcurrencyLimit(2, name="api"),)}


# --- scope ------------------------------------------------------------------------------------------------------------


class Plain(Actor):
    tasks = Queue(str, limits=[RateLimit(100, per=1, name="anthropic", scope=agents.claude)])

    @tasks.handler
    async def work(self, body: str) -> None:
        if body == "limited":
            raise RateLimited("the API said so", retry_after=LONG, limit="anthropic")


def test_a_prompt_that_meets_the_limit_pauses_every_queue_that_names_it(tmp_path: Path) -> None:
    async def program(vm: Machine, model: Model) -> None:
        session = await vm.create_session("claude")
        model.limit = RateLimited("5-hour limit", retry_after=LONG)
        with pytest.raises(RateLimited) as met:
            await vm.send_prompt(session.session_id, "go")
        assert met.value.limit == "anthropic"
        assert vm.registry.limits["anthropic"].reason == "5-hour limit"
        assert (await (await vm.actor("plain").send("tasks", "fine")).result(0.3)).status == "timed_out"
        await vm.restart()
        assert vm.registry.limits["anthropic"].reason == "5-hour limit"
        model.limit = None
        await vm.registry.limits.resume("anthropic")
        session = await vm.create_session("claude")
        assert (await vm.send_prompt(session.session_id, "again")).text == "done"

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(), program, plain=Plain))


def test_while_the_limit_is_paused_prompts_of_its_scope_are_refused(tmp_path: Path) -> None:
    async def program(vm: Machine, model: Model) -> None:
        session = await vm.create_session("claude")
        receipt = await vm.actor("plain").send("tasks", "limited")
        await until(lambda: vm.registry.limits["anthropic"].reason is not None)
        with pytest.raises(RateLimited, match="the API said so") as refused:
            await vm.send_prompt(session.session_id, "go")
        assert (refused.value.limit, model.asked) == ("anthropic", [])
        assert (await receipt.result(0)).status != "completed"
        await vm.registry.limits.resume("anthropic")

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(), program, plain=Plain))


def test_a_prompt_that_waits_is_refused_when_its_limit_is_paused(tmp_path: Path) -> None:
    places = ConcurrencyLimit(1, name="places")

    async def program(vm: Machine, model: Model) -> None:
        model.may_answer.clear()
        first, second = await vm.create_session("claude"), await vm.create_session("claude")
        at_work = task_of(vm.send_prompt(first.session_id, "a"))
        await model.until_asked(1)
        waits = task_of(vm.send_prompt(second.session_id, "b"))
        await waiting_for(vm, "places")
        await vm.actor("plain").send("tasks", "limited")
        with pytest.raises(RateLimited, match="the API said so"):
            await waits
        model.may_answer.set()
        assert ((await at_work).text, model.asked) == ("done", ["a"])

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(places), program, plain=Plain))


def test_an_answered_prompt_ends_a_pause_whose_end_was_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentq_nb._policies.pause.FIRST_GUESS", 0.05)

    async def program(vm: Machine, model: Model) -> None:
        session = await vm.create_session("claude")
        model.limit = RateLimited("overloaded")
        with pytest.raises(RateLimited):
            await vm.send_prompt(session.session_id, "go")
        model.limit = None
        await asyncio.sleep(0.1)
        assert vm.registry.limits["anthropic"].reason == "overloaded"
        assert (await vm.send_prompt(session.session_id, "again")).text == "done"
        assert vm.registry.limits["anthropic"].reason is None

    asyncio.run(in_vm(tmp_path, lambda model: model.vm(), program, plain=Plain))
