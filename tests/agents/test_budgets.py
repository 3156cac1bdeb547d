"""Budgets, limits and prices of language models: work waits and continues, and none of it fails or is paid twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agentq_nb import LLM, Actor, Budget, Message, Queue, agent_os, agents
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._commands.cost import Budgets, Cost, SetBudget
from agentq_nb._core.clock import SystemClock
from agentq_nb._notebook.dashboard.overview import Overview
from agentq_nb._notebook.dashboard.static_view import as_plain, of_dashboard
from agentq_nb.agent_os import VM
from agentq_nb.agent_os.meter import account as accounts
from agentq_nb.agent_os.meter.usage import Usage
from agentq_nb.errors import BudgetSpent, RateLimited
from tests.agents.fake_llm import FakeModel, serving
from tests.unit.agent_os.machine import Machine

KEY = "sk-the-real-key-0123456789abcdef"
PATH = "/v1/messages"
BODY = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "@slow 0.01\n@say hello you"}],
}
PRICES = {"*": {"input": 90_000, "output": 20_000}}
"""With these an answer costs a dollar: it takes 10 tokens, and gives 5."""


class Context:
    """A kernel in which commands are typed."""

    in_kernel = True

    def __init__(self, vm: Machine) -> None:
        self._vm = vm

    def host(self) -> Any:
        return self._vm.registry

    def client(self) -> Any:
        return self._vm.registry.host.client


async def budget(vm: Machine, usd: float | None = None) -> Budgets:
    return await SetBudget(usd=usd).run(Context(vm))  # type: ignore[arg-type]  # it needs no more of it


async def caller(session: Any, prompt: str) -> str:
    async with httpx2.AsyncClient(timeout=60) as client:
        for _ in range(int(prompt)):
            url, key = session.env["ANTHROPIC_BASE_URL"], session.env["ANTHROPIC_API_KEY"]
            answer = await client.post(f"{url}{PATH}", json=BODY, headers={"x-api-key": key})
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.status_code} {answer.json()['error']['message']}")
    return "done"


class Worker(Actor):
    tasks = Queue(str, concurrency=3, max_pause=60)
    because: list[tuple[str | None, int]]

    @tasks.handler
    async def work(self, task: str, message: Message[str, None]) -> None:
        seen.append((message.released_because, message.attempt))
        vm = self.actors.vm.get_or_create(["a"])
        session = await vm.create_session("caller", keep=True)
        await vm.send_prompt(session.session_id, task)


seen: list[tuple[str | None, int]] = []


def run_with(
    program: Callable[[Machine, FakeModel], Awaitable[None]],
    folder: Path,
    cls: type[Actor] = Worker,
    **options: Any,
) -> FakeModel:
    async def whole(model: FakeModel) -> None:
        async with Machine(vm_of(model, **options), folder, worker=cls) as vm:
            await program(vm, model)

    seen.clear()
    with serving() as model:
        asyncio.run(whole(model))
    return model


def vm_of(model: FakeModel, **options: Any) -> type[VM]:
    llm = LLM("anthropic", KEY, base_url=model.url, **{"prices": PRICES, **options})
    return agent_os(agents=[agents.function(caller)], llm=llm, isolation="off")


async def queue_of(vm: Machine) -> QueueStatus:
    return (await vm.actor("worker").status()).queues[0]


async def until_paused(vm: Machine) -> QueueStatus:
    async with asyncio.timeout(30):
        while not (queue := await queue_of(vm)).paused or queue.running:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return queue


def test_work_pauses_when_the_budget_is_spent_and_continues_when_it_is_raised(tmp_path: Path) -> None:
    async def program(vm: Machine, model: FakeModel) -> None:
        worker = vm.actor("worker")
        sent = [await worker.send("tasks", "2") for _ in range(6)]
        queue = await until_paused(vm)
        assert queue.pause_reason is not None
        assert "The budget of LLM 'anthropic' is spent: $" in queue.pause_reason
        assert "of $4.00. To raise it: %agentq budget 8" in queue.pause_reason
        assert 4 <= len(model.counted) <= 4 + 2  # those that were in flight when it was spent
        asked = len(model.counted)
        sessions = await vm.list_sessions()
        assert {session.status for session in sessions} == {"open"}
        shown = await budget(vm)
        assert (shown.budgets[0].limit, shown.budgets[0].is_spent) == ("$4.00", True)

        changed = await budget(vm, 40)
        assert (changed.budgets[0].limit, changed.remarks) == ("$40.00 (declared $4.00)", ["1 queue continued."])
        results = [await receipt.result(timeout=60) for receipt in sent]
        assert [result.status for result in results] == ["completed"] * 6
        assert len(model.counted) > asked
        rows = (await vm.registry.sql("select attempts, cost from results")).rows
        assert {attempts for attempts, _ in rows} == {1}
        total = (await vm.registry.sql("select sum(cost) from usage")).rows[0][0]
        assert total == pytest.approx(len(model.counted))
        assert sum(cost for _, cost in rows) == pytest.approx(total)
        released = [because for because, _ in seen if because is not None]
        assert released
        assert all("The budget of LLM 'anthropic' is spent" in because for because in released)
        assert {attempt for _, attempt in seen} == {1}

    run_with(program, tmp_path, budget=Budget(4, hold=0))


def test_a_request_that_is_held_goes_on_when_the_budget_is_raised_in_time(tmp_path: Path) -> None:
    async def program(vm: Machine, model: FakeModel) -> None:
        receipt = await vm.actor("worker").send("tasks", "4")
        async with asyncio.timeout(30):
            while len(model.counted) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        assert (len(model.counted), (await queue_of(vm)).paused) == (2, False)
        await budget(vm, 10)
        assert (await receipt.result(timeout=60)).status == "completed"
        assert (len(model.counted), seen) == (4, [(None, 1)])

    run_with(program, tmp_path, budget=Budget(2, hold=60))


def test_what_was_spent_and_what_was_raised_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def program(vm: Machine, model: FakeModel) -> None:
        receipt = await vm.actor("worker").send("tasks", "4")
        await until_paused(vm)
        monkeypatch.setattr(accounts, "_accounts", {})  # what a new kernel does not have
        await vm.restart()
        assert [budget.spent for budget in (await budget(vm)).budgets] == ["$2.00"]
        assert (await until_paused(vm)).pause_reason is not None
        await budget(vm, 5)
        monkeypatch.setattr(accounts, "_accounts", {})
        await vm.restart()
        assert (await budget(vm)).budgets[0].limit == "$5.00 (declared $2.00)"
        async with asyncio.timeout(30):
            while len(model.counted) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await until_paused(vm)
        assert len(model.counted) == 5  # two, and from the start again three of four
        assert (seen[0], seen[-1][0] is not None) == ((None, 1), True), seen
        await budget(vm, 50)
        assert (await vm.registry.host.client.receipt(receipt.id).result(timeout=60)).status == "completed"

    run_with(program, tmp_path, budget=Budget(2, hold=0))


def test_a_spent_budget_is_told_once_and_again_once_the_raised_one_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(vm: Machine) -> list[str]:
        rows = (
            await vm.registry.sql("select data->>'$.text' from events where kind = 'budget.spent' order by seq")
        ).rows
        return [text for (text,) in rows]

    async def program(vm: Machine, model: FakeModel) -> None:
        worker = vm.actor("worker")
        for _ in range(4):
            await worker.send("tasks", "4")
        await until_paused(vm)
        monkeypatch.setattr(accounts, "_accounts", {})
        await vm.restart()
        await until_paused(vm)
        (first,) = await told(vm)
        assert first.startswith("The budget of LLM 'anthropic' is spent: $")
        await budget(vm, 3)
        async with asyncio.timeout(30):
            while len(await told(vm)) == 1:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await until_paused(vm)
        first, second = await told(vm)
        assert "of $2.00" in first
        assert "of $3.00" in second

    run_with(program, tmp_path, budget=Budget(2, hold=0))


def test_a_budget_for_each_batch_stops_that_batch_alone(tmp_path: Path) -> None:
    async def program(vm: Machine, model: FakeModel) -> None:
        worker = vm.actor("worker")
        await worker.send_many("tasks", ["1"] * 5, name="large")
        await until_paused(vm)
        assert (await budget(vm)).budgets[0].spent == "$2.00 for batch 'large'" or len(model.counted) <= 4
        other = vm.registry.host.client.worker.get_or_create(["other"])
        small = await other.send_many("tasks", ["1"], name="small")
        assert [result.status for result in await small.results(timeout=60)] == ["completed"]
        frame = await small.frame()
        assert (list(frame["tokens"]), list(frame["cost"])) == ([15], [1.0])

    run_with(program, tmp_path, budget=Budget(2, per="batch", hold=0))


def test_outside_of_messages_the_prompt_raises_and_its_session_stays(tmp_path: Path) -> None:
    async def program(vm: Machine, model: FakeModel) -> None:
        session = await vm.create_session("caller")
        with pytest.raises(
            BudgetSpent, match=r"The budget of LLM 'anthropic' of this day is spent: \$2\.00 of \$2\.00"
        ):
            await vm.send_prompt(session.session_id, "3")
        await budget(vm, 3)
        assert (await vm.send_prompt(session.session_id, "1")).text == "done"

    run_with(program, tmp_path, budget=Budget(2, per="day", hold=0))


def test_what_a_batch_will_cost_is_judged_by_its_first_rows(tmp_path: Path) -> None:
    class Slow(Actor):
        tasks = Queue(str)

        @tasks.handler
        async def work(self, task: str) -> None:
            if task == "wait":
                await asyncio.Event().wait()
            vm = self.actors.vm.get_or_create(["a"])
            session = await vm.create_session("caller")
            await vm.send_prompt(session.session_id, task)

    async def program(vm: Machine, model: FakeModel) -> None:
        batch = await vm.actor("worker").send_many("tasks", ["1", "3", "wait", "1", "2"], name="five")
        assert (
            str(await batch.estimate()).startswith("no row is done yet: $0.00 for 0 of 5 rows so far") or model.counted
        )
        async with asyncio.timeout(30):
            while batch.progress().done < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        estimate = await batch.estimate()
        assert (estimate.rows, estimate.done, estimate.spent, estimate.tokens) == (5, 2, 4.0, 60)
        assert (estimate.per_row, estimate.total) == (2.0, 10.0)
        assert estimate.low is not None
        assert estimate.high is not None
        assert 4.0 <= estimate.low < 10.0 < estimate.high
        assert str(estimate).startswith("about $10.00 ($")
        await batch.cancel()

    run_with(program, tmp_path, Slow)


def test_requests_wait_for_their_minute_and_later_ones_are_told_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_LONGEST_WAIT", 0.0)

    async def program(vm: Machine, model: FakeModel) -> None:
        session = await vm.create_session("caller")
        assert (await vm.send_prompt(session.session_id, "2")).text == "done"
        with pytest.raises(RateLimited, match="let this request start in"):
            await vm.send_prompt(session.session_id, "1")
        assert len(model.counted) == 2

    run_with(program, tmp_path, requests_per_minute=2)


def test_pruning_leaves_what_was_spent(tmp_path: Path) -> None:
    async def program(vm: Machine, model: FakeModel) -> None:
        assert (await (await vm.actor("worker").send("tasks", "2")).result(timeout=60)).status == "completed"
        for session in await vm.list_sessions():
            await vm.close_session(session.session_id)
        assert await vm.registry.prune(time.time() + 60) > 0
        assert (await vm.registry.sql("select count(*) from messages")).rows == [(0,)]
        assert (await vm.registry.sql("select count(*), sum(cost), count(session_id) from usage")).rows == [(2, 2.0, 2)]

    run_with(program, tmp_path)


def test_a_model_without_a_price_is_counted_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def program(vm: Machine, model: FakeModel) -> None:
        session = await vm.create_session("caller")
        await vm.send_prompt(session.session_id, "2")
        assert (await vm.registry.sql("select input_tokens, cost from usage")).rows == [(10, None)] * 2

    run_with(program, tmp_path, prices={"another": {"input": 1, "output": 1}}, budget=Budget(1))
    said = [record.getMessage() for record in caplog.records if "no known price" in record.getMessage()]
    assert len(said) == 1
    assert "its budget does not count them" in said[0]


def test_prices_are_those_of_the_package_unless_the_user_has_others() -> None:
    usage = Usage(1_000_000, 1_000_000, 500_000, 100_000)
    assert accounts.cost_of(LLM("anthropic", KEY), "claude-sonnet-4-5", Usage(1000, 100, 200, 100)) == pytest.approx(
        (700 * 3 + 200 * 0.3 + 100 * 3.75 + 100 * 15) / 1e6
    )
    assert accounts.cost_of(LLM("anthropic", KEY), "no-such-model", usage) is None
    own = LLM(
        "openai", KEY, prices={"m": {"input": 1, "output": 10, "cache_read": 0.1}, "*": {"input": 0, "output": 0}}
    )
    assert accounts.cost_of(own, "m", usage) == pytest.approx(0.4 + 0.05 + 0.1 + 10)
    assert accounts.cost_of(own, "another", usage) == 0


@pytest.mark.parametrize("by", ["model", "day", "actor", "queue", "batch", "message", "session"])
def test_cost_shows_what_was_spent_by(by: str, tmp_path: Path) -> None:
    async def program(vm: Machine, model: FakeModel) -> None:
        await (await vm.actor("worker").send_many("tasks", ["1", "2"], name="two"))
        table = await Cost(by=by, batch="two").run(Context(vm))  # type: ignore[arg-type]  # it needs no more of it
        cost = table.columns.index("cost")
        assert sum(row[cost] for row in table.rows) == pytest.approx(3.0)
        assert len(table.rows) == (2 if by in ("message", "session") else 1)
        none = await Cost(by=by, batch="none").run(Context(vm))  # type: ignore[arg-type]  # as above
        assert (none.rows, "No language model was asked" in none.empty) == ([], True)

    run_with(program, tmp_path)


def test_the_dashboard_shows_what_was_spent_and_nothing_where_no_model_was_asked(tmp_path: Path) -> None:
    async def program(vm: Machine, model: FakeModel) -> None:
        overview = Overview(vm.registry, SystemClock())
        assert (await overview.look())["host"]["it"]["cost"] is None
        session = await vm.create_session("caller")
        await vm.send_prompt(session.session_id, "2")
        sections = await overview.look(refresh=True)
        assert sections["host"]["it"]["cost"] == 2.0
        assert "$2.00" in as_plain(of_dashboard(sections, 0.0))

    run_with(program, tmp_path)
