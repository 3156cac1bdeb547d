"""Words sent elsewhere: each event once, alike ones together, and nothing waits for them. The clock is a fake."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import agentq_nb
from agentq_nb import Actor, Queue, RateLimit, RateLimited, Retry, agent_os, agents, setup
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb._host import notice_channels, notifier
from agentq_nb._host.notice_channels import channels_of
from agentq_nb._policies.notices import BUDGET_SPENT, QUIET, Notice, budget_spent
from agentq_nb.errors import BudgetSpent, ValidationFailed
from tests.agents.running import MARK, all_gone, new_mark
from tests.unit.fake_clock import FakeClock
from tests.unit.host.receiver import Receiver, receiving
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio


class Worker(Actor):
    tasks = Queue(str, reply=str, retry=Retry(attempts=1))
    limited = Queue(str, limits=[RateLimit(50, per=60, name="anthropic")])

    @tasks.handler
    async def work(self, text: str) -> str:
        if text.startswith("fail"):
            raise ValueError(f"no {text}")
        return text

    @limited.handler
    async def ask(self, text: str) -> None:
        raise RateLimited("slow down", retry_after=3600, limit="anthropic")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    clock = FakeClock()
    monkeypatch.setattr("agentq_nb._host.host.SystemClock", lambda: clock)
    monkeypatch.setattr("agentq_nb._brokers.local.broker.SystemClock", lambda: clock)
    made = World(tmp_path, clock)
    yield made
    await made.close()


async def began(world: World, receiver: Receiver | None, **use: type[Actor]) -> Any:
    """Start a host that notifies the receiver, and return a handle to its worker."""
    client = await world.start(worker=Worker, **use)
    if receiver is not None:
        notify(world, receiver.url)
    await passing(world, 2)
    return client.worker.get_or_create("w")


def notify(world: World, target: Any) -> None:
    world.registry.lifecycle.notify_settings.channels = channels_of(target)


async def passing(world: World, seconds: int) -> None:
    """Let time go on, with what is sent meanwhile."""
    for _ in range(seconds):
        await world.pass_by(1)
        await asyncio.sleep(0.02)


async def until(world: World, condition: Any, seconds: int = 3000) -> None:
    for _ in range(seconds):
        if condition():
            return
        await passing(world, 1)
    raise AssertionError("it did not come true")


async def test_a_hundred_failures_are_one_word(world: World, receiver: Receiver) -> None:
    worker = await began(world, receiver)
    await (await worker.send_many("tasks", [f"fail {number}" for number in range(100)])).results()
    await until(world, lambda: receiver.taken)
    await passing(world, 10)
    failed = [word for word in receiver.taken if "failed" in word["title"]]
    assert [word["title"] for word in failed] == ["agentq: 100 messages of worker, queue 'tasks', failed"]
    assert "ValueError" in failed[0]["message"]
    assert "first.agentq.duckdb" in failed[0]["message"]
    assert failed[0]["type"] == "failure"
    assert "fail 7" not in str(receiver.taken)


async def test_failures_that_go_on_are_gathered_for_longer(world: World, receiver: Receiver) -> None:
    worker = await began(world, receiver)
    for number in range(10):
        await (await worker.send("tasks", f"fail {number}")).result()
        await passing(world, 10)
    assert receiver.titles == ["1 message of worker, queue 'tasks', failed"]
    await until(world, lambda: len(receiver.taken) > 1, int(QUIET["failed"]))
    assert receiver.titles[1:] == ["9 messages of worker, queue 'tasks', failed"]


async def test_a_batch_that_is_done_is_told_once(world: World, receiver: Receiver) -> None:
    worker = await began(world, receiver)
    batch = await worker.send_many("tasks", ["a", "b", "fail"], name="three")
    await batch.results()
    await until(world, lambda: "Batch 'three' is done" in receiver.titles)
    await passing(world, 20)
    assert receiver.titles.count("Batch 'three' is done") == 1
    said = next(word["message"] for word in receiver.taken if "three" in word["title"])
    assert said.startswith("3 rows: 2 completed, 1 failed, 0 cancelled.")


async def test_a_batch_whose_failed_rows_are_tried_again_is_told_again(world: World, receiver: Receiver) -> None:
    worker = await began(world, receiver)
    batch = await worker.send_many("tasks", ["a", "fail"], name="two")
    await batch.results()
    await until(world, lambda: "Batch 'two' is done" in receiver.titles)
    await worker.pause("tasks")
    await batch.retry_failed()
    await passing(world, 5)
    assert receiver.titles.count("Batch 'two' is done") == 1
    await worker.resume("tasks")
    await until(world, lambda: receiver.titles.count("Batch 'two' is done") == 2)


async def test_a_limit_is_told_with_its_end_and_once(world: World, receiver: Receiver) -> None:
    worker = await began(world, receiver)
    await worker.send("limited", "a")
    await until(world, lambda: receiver.taken)
    await passing(world, 30)
    assert receiver.titles == ["Limit 'anthropic' is reached"]
    assert "goes on at" in receiver.taken[0]["message"]


async def test_a_queue_that_stopped_and_a_budget_that_is_spent_are_told(world: World, receiver: Receiver) -> None:
    class Stopping(Actor):
        tasks = Queue(str, retry=Retry(attempts=1), stop_after=3)

        @tasks.handler
        async def work(self, text: str) -> None:
            raise ValueError(text)

    await began(world, receiver, stopping=Stopping)
    stopping = agentq_nb.create_client().stopping.get_or_create("s")
    await stopping.send_many("tasks", list("abcdef"))
    await until(world, lambda: "Queue 'tasks' of stopping/s has stopped" in receiver.titles)
    await world.registry.host.log.of("vm/a").append(BUDGET_SPENT, budget_spent("night", "20.14 of 20 USD are spent."))
    await until(world, lambda: "Budget 'night' is spent" in receiver.titles)
    assert receiver.taken[-1]["message"].startswith("20.14 of 20 USD are spent.")


async def test_a_pause_because_of_a_budget_is_not_told_as_a_limit_of_the_provider(
    world: World, receiver: Receiver
) -> None:
    raised: list[RateLimited] = [BudgetSpent("$20.14 of $20 are spent"), RateLimited("slow down", retry_after=3600)]

    class Spending(Actor):
        tasks = Queue(str)

        @tasks.handler
        async def work(self, text: str) -> None:
            raise raised.pop(0)

    await began(world, receiver, spending=Spending)
    await agentq_nb.create_client().spending.get_or_create("s").send("tasks", "a")
    await until(world, lambda: receiver.taken)
    assert raised == []
    await passing(world, 30)
    assert receiver.titles == ["The provider's limit of spending/s, queue 'tasks', is reached"]
    assert receiver.taken[0]["message"].startswith("Work that needs it goes on at")


async def test_an_agent_that_asks_is_told_and_one_that_was_answered_is_not(world: World, receiver: Receiver) -> None:
    async def asking(session: agents.AgentSession, prompt: str) -> str:
        return str(await session.ask(f"{prompt} the secret file"))

    vm_class = agent_os(agents=[agents.function(asking, name="asking")], permissions="ask", permission_timeout=None)
    await began(world, receiver, vm=vm_class)
    vm = agentq_nb.create_client().vm.get_or_create("a")
    session = await vm.create_session("asking")
    asked: list[Any] = []
    vm.on("permission_request", asked.append)

    async def ask(prompt: str) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(vm.send_prompt(session.session_id, prompt))
        number = len(asked)
        await until(world, lambda: len(asked) > number)
        return task

    quick = await ask("read")
    await vm.respond_permission(session.session_id, asked[0].request_id, "allow")
    assert (await quick).text == "True"
    await passing(world, 10)
    assert receiver.titles == []
    slow = await ask("delete")
    await until(world, lambda: receiver.taken)
    assert receiver.titles == ["An agent in vm/a asks for permission"]
    assert "secret file" not in str(receiver.taken)
    await vm.respond_permission(session.session_id, asked[1].request_id, "deny")
    assert (await slow).text == "False"


async def test_a_secret_is_redacted(world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789abcdef")
    worker = await began(world, receiver)
    await (await worker.send_many("tasks", ["a"], name="with sk-0123456789abcdef")).results()
    await until(world, lambda: receiver.taken)
    assert re.search(r"\[redacted \w*KEY\]", receiver.taken[0]["title"])  # the name that was registered first
    assert "0123456789" not in str(receiver.taken)


# --- receivers that fail ------------------------------------------------------------------------------------------------


async def test_a_word_is_repeated_until_it_is_taken(world: World, receiver: Receiver) -> None:
    receiver.status = 500
    worker = await began(world, receiver)
    await (await worker.send_many("tasks", ["a"], name="one")).results()
    await until(world, lambda: receiver.asked >= 2)
    status = await world.registry.status()
    assert any("Not all notifications" in notice for notice in status.notices)
    receiver.status = 200
    await until(world, lambda: receiver.taken)
    await passing(world, 5)
    assert receiver.titles == ["Batch 'one' is done"]
    assert not any("Not all notifications" in notice for notice in (await world.registry.status()).notices)


async def test_a_word_that_is_never_taken_is_dropped_and_counted(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "ATTEMPTS", 5)
    receiver.status = 500
    worker = await began(world, receiver)
    await (await worker.send_many("tasks", ["a"], name="one")).results()
    await until(world, lambda: receiver.asked >= 5)
    await passing(world, 3)
    notices = [notice for notice in (await world.registry.status()).notices if "Not all notifications" in notice]
    assert "1 dropped" in notices[0]
    assert "json://127.0.0.1" in notices[0]
    document = document_of(await world.registry.status())
    assert document is not None
    assert "Not all notifications" in as_text(document)
    receiver.status = 200
    await passing(world, 60)
    assert (receiver.asked, receiver.taken) == (5, [])


async def test_a_receiver_that_hangs_delays_no_message_and_holds_one_thread(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice_channels, "LONGEST_SEND", 0.05)
    receiver.hangs = True
    worker = await began(world, receiver)
    await (await worker.send("tasks", "fail")).result()
    await until(world, lambda: receiver.asked)
    replies = await (await worker.send_many("tasks", [str(number) for number in range(50)])).results()
    assert [result.unwrap() for result in replies] == [str(number) for number in range(50)]
    await passing(world, 30)
    assert receiver.asked <= 2
    notices = (await world.registry.status()).notices
    assert any("no answer within" in notice or "has not ended" in notice for notice in notices)
    stopped = time.monotonic()
    await world.registry.stop()
    assert time.monotonic() - stopped < 9


async def test_one_channel_that_fails_does_not_keep_another_waiting(world: World, receiver: Receiver) -> None:
    with receiving() as broken:
        broken.status = 500
        worker = await began(world, None)
        notify(world, [broken.url, receiver.url])
        await passing(world, 2)
        await (await worker.send_many("tasks", ["a"], name="one")).results()
        await until(world, lambda: receiver.taken)
        await until(world, lambda: broken.asked >= 3)
        assert receiver.titles == ["Batch 'one' is done"]


# --- commands and functions ---------------------------------------------------------------------------------------------


async def test_a_command_gets_the_text_on_stdin_and_in_its_environment(world: World, tmp_path: Path) -> None:
    out = tmp_path / "said"
    script = "import os, sys; open(sys.argv[1], 'w').write(sys.stdin.read() + repr(sorted(v for v in os.environ.items() if v[0].startswith('AGENTQ_NOTICE'))))"
    worker = await began(world, None)
    notify(world, [sys.executable, "-c", script, str(out)])
    await passing(world, 2)
    await (await worker.send_many("tasks", ["a"], name="one")).results()
    await until(world, lambda: out.exists() and out.read_text())
    said = out.read_text()
    assert said.startswith("agentq: Batch 'one' is done\n\n1 row: 1 completed")
    assert "('AGENTQ_NOTICE_KIND', 'done')" in said
    assert "('AGENTQ_NOTICE_COUNT', '1')" in said


@pytest.mark.parametrize("target", [["/nowhere/to/be/found"], [sys.executable, "-c", "raise SystemExit(3)"]])
async def test_a_command_that_fails_is_named(target: list[str]) -> None:
    (channel,) = channels_of(target)
    with pytest.raises(OSError, match=r"exit code 3|No such file"):
        await channel.send(Notice("test", "title", "text"))


async def test_a_command_that_hangs_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice_channels, "LONGEST_SEND", 0.5)
    mark = new_mark()
    monkeypatch.setenv(MARK, mark[MARK])
    (channel,) = channels_of(["sh", "-c", "sleep 600 & sleep 600"])
    with pytest.raises(TimeoutError):
        await channel.send(Notice("test", "title", "text"))
    assert all_gone(mark)


async def test_a_function_gets_the_notice(world: World) -> None:
    got: list[Notice] = []

    async def awaited(notice: Notice) -> None:
        got.append(notice)

    worker = await began(world, None)
    notify(world, awaited)
    await passing(world, 2)
    await (await worker.send("tasks", "fail")).result()
    await until(world, lambda: got)
    assert (got[0].kind, got[0].count) == ("failed", 1)
    notify(world, got.append)
    await passing(world, 2)
    await (await worker.send_many("tasks", ["a"], name="one")).results()
    await until(world, lambda: len(got) > 1)
    assert got[1].title == "agentq: Batch 'one' is done"


async def test_a_text_of_others_cannot_drive_a_terminal(world: World) -> None:
    got: list[Notice] = []
    await began(world, None)
    notify(world, got.append)
    await passing(world, 2)
    row = budget_spent("night \x1b[31m{count}", "title \x1b]0;owned\x07, turned \u202egnp.exe")
    await world.registry.host.log.of("vm/a").append(BUDGET_SPENT, row)
    await until(world, lambda: got)
    assert not set("\x1b\x07\u202e") & set(got[0].title + got[0].text)
    assert got[0].title == "agentq: Budget 'night {count}' is spent"


@pytest.mark.parametrize("target", ["", "notify-send agentq", [], ["json://x", "ls"], 5, ["ls", 5], "nonsense://x"])
def test_what_is_no_target_is_refused(target: Any) -> None:
    with pytest.raises(ValidationFailed, match="notify"):
        channels_of(target)


def test_a_channel_is_shown_without_its_secrets() -> None:
    shown = [channels_of(url)[0].shown for url in ("json://me:geheim@localhost:99/geheim", "ntfy://geheim")]
    assert shown == ["json://localhost:99", "ntfy://…"]


# --- restarts -----------------------------------------------------------------------------------------------------------


async def test_what_was_told_is_not_told_again_and_what_happened_in_a_crash_is(
    world: World, receiver: Receiver
) -> None:
    worker = await began(world, receiver)
    await (await worker.send_many("tasks", ["a"], name="told")).results()
    await until(world, lambda: receiver.taken)
    await passing(world, 2)
    await (await worker.send("tasks", "fail")).result()
    await (await worker.send_many("tasks", ["a"], name="not told")).results()
    await world.crash()
    notify(world, receiver.url)
    await until(world, lambda: len(receiver.taken) >= 3)
    await passing(world, 10)
    assert sorted(receiver.titles) == [
        "1 message of worker, queue 'tasks', failed",
        "Batch 'not told' is done",
        "Batch 'told' is done",
    ]


async def test_notices_that_wait_for_a_receiver_outlive_a_crash(world: World, receiver: Receiver) -> None:
    receiver.status = 500
    worker = await began(world, receiver)
    await (await worker.send("tasks", "fail")).result()
    await until(world, lambda: receiver.asked)
    await passing(world, 2)
    await world.crash()
    receiver.status = 200
    notify(world, receiver.url)
    await until(world, lambda: receiver.taken)
    await passing(world, 10)
    assert receiver.titles == ["1 message of worker, queue 'tasks', failed"]


async def test_a_request_that_a_crash_ended_is_told_as_such(world: World, receiver: Receiver) -> None:
    async def asking(session: agents.AgentSession, prompt: str) -> str:
        return str(await session.ask("delete"))

    vm_class = agent_os(agents=[agents.function(asking, name="asking")], permissions="ask", permission_timeout=None)
    await began(world, receiver, vm=vm_class)
    receiver.status = 500
    vm = agentq_nb.create_client().vm.get_or_create("a")
    asked = asyncio.Event()
    vm.on("permission_request", lambda _: asked.set())
    session = await vm.create_session("asking")
    prompt = asyncio.ensure_future(vm.send_prompt(session.session_id, "go"))
    await asked.wait()
    await world.crash()
    receiver.status = 200
    notify(world, receiver.url)
    await until(world, lambda: receiver.taken)
    assert receiver.titles == ["An agent in vm/a had asked for permission"]
    prompt.cancel()


async def test_what_happens_before_it_is_set_and_after_it_is_off_is_not_told(world: World, receiver: Receiver) -> None:
    worker = await began(world, None)
    await (await worker.send("tasks", "fail")).result()
    notify(world, receiver.url)
    await passing(world, 5)
    world.registry.lifecycle.notify_settings.channels = ()
    await passing(world, 3)
    await (await worker.send("tasks", "fail")).result()
    await passing(world, 3)
    notify(world, receiver.url)
    await passing(world, 10)
    assert receiver.taken == []
    await (await worker.send_many("tasks", ["a"], name="one")).results()
    await until(world, lambda: receiver.taken)
    assert receiver.titles == ["Batch 'one' is done"]


async def test_a_host_that_stops_first_says_what_is_left(world: World, receiver: Receiver) -> None:
    worker = await began(world, receiver)
    await (await worker.send_many("tasks", ["a"], name="one")).results()
    await world.registry.stop()
    assert receiver.titles == ["Batch 'one' is done"]
    await world.start(worker=Worker)
    await passing(world, 10)
    assert receiver.titles == ["Batch 'one' is done"]


async def test_a_host_that_stops_while_it_looks_counts_and_sends_everything_once(
    world: World, receiver: Receiver
) -> None:
    worker = await began(world, receiver)
    await (await worker.send("tasks", "fail")).result()
    lifecycle = world.registry.lifecycle
    assert lifecycle.notifier is not None
    await asyncio.gather(lifecycle.notifier._look(), lifecycle.notifier.finish(), lifecycle.notifier._look())
    assert receiver.titles == ["1 message of worker, queue 'tasks', failed"]
    await passing(world, 10)
    assert receiver.titles == ["1 message of worker, queue 'tasks', failed"]


async def test_setup_takes_a_target(tmp_path: Path, receiver: Receiver) -> None:
    registry = setup(store=tmp_path / "x.agentq.duckdb", notify=receiver.url)
    assert [channel.shown for channel in registry.lifecycle.notify_settings.channels] == [receiver.url[:-8]]
    with pytest.raises(ValidationFailed, match="notify takes"):
        setup(store=tmp_path / "x.agentq.duckdb", notify="ls")
    setup(store=tmp_path / "x.agentq.duckdb")
    assert registry.lifecycle.notify_settings.channels
