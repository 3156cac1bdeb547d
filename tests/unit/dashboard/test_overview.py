"""What the dashboard shows of a real host, and what its buttons do there."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentq_nb import Actor, Queue, RateLimit, RateLimited, Retry, agent_os, agents
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._core.clock import SystemClock
from agentq_nb._core.message_status import ALL
from agentq_nb._notebook.dashboard.cards import OneMessage, OneSession
from agentq_nb._notebook.dashboard.depth_history import HistoryRecorder
from agentq_nb._notebook.dashboard.messages import FILTERS
from agentq_nb._notebook.dashboard.overview import Overview
from agentq_nb._notebook.dashboard.patch import difference
from agentq_nb.errors import AgentqError, PromptFailed, ValidationFailed
from tests.unit.dashboard.test_pictures import HOSTILE, UNSAFE
from tests.unit.runtime.world import World, until

pytestmark = pytest.mark.anyio


class Worker(Actor):
    jobs = Queue(str, reply=str, retry=Retry(attempts=1))

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            if message.body == "slow":
                await asyncio.sleep(60)
            if message.body.startswith("bad"):
                raise ValueError(message.body)
            await message.complete(f"did {message.body}")


class Crowded(Actor):
    jobs = Queue(str, max_size=1, on_full="wait")


class Unfit(Actor):
    jobs = Queue(str)

    async def on_wake(self) -> None:
        raise RuntimeError("no database")

    async def run(self) -> None:
        async for _ in self.queue.iter():
            pass


async def asker(session: Any, prompt: str) -> AsyncIterator[Any]:
    yield "thinking. "
    yield "allowed" if await session.ask(f"Run: {prompt}", kind="execute") else "refused"


async def failing(session: Any, prompt: str) -> AsyncIterator[Any]:
    yield "I begin. "
    raise RuntimeError("could not compile")


async def talker(session: Any, prompt: str) -> AsyncIterator[Any]:
    yield "I wrote "
    yield {"type": "text", "text": "result.txt."}


FAILING = agent_os(agents=[agents.function(failing), agents.function(talker)])
MACHINE = agent_os(agents=[agents.function(asker)], permissions="ask")


def overview(world: World) -> Overview:
    return Overview(world.registry, SystemClock())


async def test_queues_are_shown_with_their_figures_and_history(world: World) -> None:
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    shown = overview(world)
    await shown.look()
    await worker.send("jobs", "one", wait=True)
    await worker.send("jobs", "bad luck", wait=True)
    await worker.pause("jobs", until=time.time() + 90)
    await worker.send("jobs", "later")
    row = (await shown.look())["queues"]["worker/main jobs"]
    assert (row["ready"], row["running"], row["dead"], row["handled"]) == (1, 0, 1, 2)
    assert row["paused"]
    assert row["paused_until"] > time.time() + 80
    assert abs(row["oldest_at"] - time.time()) < 20
    points = (await shown.extras())["history"]["worker/main jobs"]
    assert points[-1][1:] == (1, 2)


async def test_expired_messages_and_senders_that_wait_are_shown(slow_world: World) -> None:
    client = await slow_world.start(crowded=Crowded)
    crowded = client.crowded.get_or_create("main")
    shown = overview(slow_world)
    await crowded.send("jobs", "late", ttl=5)
    await slow_world.pass_by(5)
    await crowded.send("jobs", "fits")
    sending = asyncio.ensure_future(crowded.send("jobs", "waits"))
    await slow_world.pass_by(1)
    row = (await shown.look())["queues"]["crowded/main jobs"]
    assert (row["expired"], row["waiting_senders"], row["ready"]) == (1, 1, 1)
    sending.cancel()


async def test_what_holds_a_queue_is_shown_and_changes_nothing_from_look_to_look(world: World) -> None:
    class Limited(Actor):
        jobs = Queue(str, limits=[RateLimit(1, per=600, name="api")])
        other = Queue(str)

        async def run(self) -> None:
            async for message in self.queue.iter():
                if message.body == "limited":
                    raise RateLimited("5-hour limit", retry_after=600)

    client = await world.start(limited=Limited)
    handle = client.limited.get_or_create("main")
    await handle.send("jobs", "one", wait=True)
    await handle.send("jobs", "waits")
    await handle.send("other", "limited")
    shown = overview(world)

    async def rows() -> Any:
        return (await shown.look())["queues"]

    async def paused() -> bool:
        return (await rows())["limited/main other"]["paused"]

    await until(paused)
    first, second = await rows(), await rows()
    assert first["limited/main jobs"]["limit"] == "limit api"
    assert 590 < first["limited/main jobs"]["next_start"] - time.time() <= 601
    assert "5-hour limit" in first["limited/main other"]["reason"]
    assert first == second


async def test_looking_twice_at_a_quiet_host_finds_no_change(world: World) -> None:
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    await worker.pause("jobs")
    await worker.send("jobs", "waits")
    shown = overview(world)
    await shown.look()
    await until(lambda: shown._table)
    await until(lambda: shown._reading is None)
    before = await shown.look()
    for _ in range(20):
        await asyncio.sleep(0.03)
        assert difference(before, await shown.look()) == {}


async def test_actors_that_wait_for_a_class_or_fail_to_start_are_shown_with_the_reason(world: World) -> None:
    client = await world.start(worker=Worker, unfit=Unfit)
    await client.worker.get_or_create("main").pause("jobs")
    await client.worker.get_or_create("main").send("jobs", "one")
    await client.unfit.get_or_create("x").send("jobs", "one")
    shown = overview(world)

    async def failed() -> bool:
        actors = (await shown.look())["actors"]
        return "no database" in str(actors.get("unfit/x", {}).get("error"))

    await until(failed)
    await world.registry.stop()
    world.registry._classes.clear()
    await world.registry.start()
    fresh = overview(world)
    again = await fresh.look()
    await until(lambda: fresh._reading is None)
    assert "worker" in again["host"]["it"]["waiting_for"]
    assert again["actors"]["worker/main"]["state"] == "waiting for its class"


async def test_a_failure_is_an_alert_until_the_actor_has_completed_a_message_again(world: World) -> None:
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    shown = overview(world)

    async def alerts() -> int:
        return len((await shown.look())["actors"])

    async def calm() -> bool:
        return await alerts() == 0

    await worker.send("jobs", "bad luck", wait=True)
    await until(alerts)
    assert (await worker.send("jobs", "plain", wait=True)).status == "completed"
    await until(calm)


async def test_the_table_can_be_filtered_and_searched_and_a_message_shown_whole(world: World) -> None:
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    for body in ("plain", "bad luck", 'a "quoted" word', "100% sure"):
        await worker.send("jobs", body, wait=True)
    shown = overview(world)
    for status, search, bodies in (
        ("all", "", 4),
        ("failed", "", 1),
        ("completed", "", 3),
        ("all", "QUOTED", 1),
        ("all", '"quoted"', 1),
        ("all", "100%", 1),
        ("all", "worker/main did plain", 1),
        ("all", "'; drop table events; --", 0),
        ("waiting", "", 0),
    ):
        await shown.answer({"type": "page", "status": status, "search": search, "offset": 0})
        assert len((await shown.look())["messages"]) == bodies, (status, search)
    await shown.answer({"type": "page", "status": "failed"})
    ((message, row),) = (await shown.look())["messages"].items()
    assert row["bad"]
    assert "bad luck" in row["outcome"]
    told = (await shown.answer({"type": "show", "message": message}))["shown"]
    assert told["body"] == "bad luck"
    assert "ValueError" in told["error"]
    with pytest.raises(AgentqError, match="reload it"):
        await shown.answer({"type": "page", "status": "x' or true"})


def test_every_status_is_shown_by_all_and_by_one_other_filter() -> None:
    shown = [status for name, statuses in FILTERS.items() if name != "all" for status in statuses]
    assert sorted(shown) == sorted(ALL) == sorted(FILTERS["all"])


async def test_the_page_is_told_the_filters_and_what_can_be_done_with_a_message(world: World) -> None:
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    await worker.send("jobs", "bad luck", wait=True)
    await worker.send("jobs", "plain", wait=True)
    await worker.pause("jobs")
    await worker.send("jobs", "waits")
    shown = overview(world)
    seen = await shown.look(refresh=True)
    assert seen["table"]["it"]["filters"] == list(FILTERS)
    can = {row["status"]: (row["live"], row["redeliverable"]) for row in seen["messages"].values()}
    assert can == {"failed": (False, True), "completed": (False, False), "queued": (True, False)}


async def test_buttons_pause_resume_purge_cancel_and_retry(world: World) -> None:
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    shown = overview(world)
    key = "worker/main jobs"

    async def press(**asked: Any) -> str:
        return (await shown.answer({"type": "do", **asked}))["note"]

    dead = await worker.send("jobs", "bad", wait=True)
    await press(action="pause", key=key)
    assert (await shown.look())["queues"][key]["paused"]
    receipts = [await worker.send("jobs", str(number)) for number in range(3)]
    assert await press(action="cancel", message=receipts[0].id) == "Cancelled."
    assert await receipts[0].status() == "cancelled"
    assert await press(action="cancel", message=receipts[0].id) == "It was cancelled already."
    assert await press(action="purge", key=key) == "Cancelled 2 messages of jobs."
    assert await press(action="retry", message=dead.message_id) == "Back in its queue."
    await press(action="resume", key=key)
    assert (await client.receipt(dead.message_id).result(timeout=20)).status == "failed"
    slow = await worker.send("jobs", "slow")
    await until(lambda: shown_running(shown, key))
    await press(action="cancel", message=slow.id)
    assert (await slow.result(timeout=20)).status == "cancelled"


async def shown_running(shown: Overview, key: str) -> bool:
    return (await shown.look())["queues"][key]["running"] == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"action": "pause", "key": "nobody/main jobs"},
        {"action": "purge", "key": "worker/main nothing"},
        {"action": "cancel", "message": "never"},
        {"action": "answer", "actor": "worker/main"},
        {"action": "format the disk"},
        {},
    ],
)
async def test_a_button_that_cannot_do_its_action_says_why(world: World, asked: dict[str, Any]) -> None:
    await world.start(worker=Worker)
    with pytest.raises(AgentqError):
        await overview(world).answer({"type": "do", **asked})


WRONG_SECONDS = [math.nan, math.inf, -1, 0, True, "60", 1e300, 10**400, [60]]


@pytest.mark.parametrize("seconds", WRONG_SECONDS, ids=lambda seconds: repr(seconds)[:10])
async def test_a_length_of_a_pause_that_is_none_is_refused_and_pauses_nothing(world: World, seconds: object) -> None:
    client = await world.start(worker=Worker)
    await client.worker.get_or_create("main").send("jobs", "one", wait=True)
    shown = overview(world)
    with pytest.raises(ValidationFailed):
        await shown.answer({"type": "do", "action": "pause", "key": "worker/main jobs", "seconds": seconds})
    assert not (await shown.look())["queues"]["worker/main jobs"]["paused"]


async def test_a_pause_may_have_a_length(world: World) -> None:
    client = await world.start(worker=Worker)
    await client.worker.get_or_create("main").send("jobs", "one", wait=True)
    shown = overview(world)
    await shown.answer({"type": "do", "action": "pause", "key": "worker/main jobs", "seconds": 600})
    row = (await shown.look())["queues"]["worker/main jobs"]
    assert abs(row["paused_until"] - time.time() - 600) < 60


UNKNOWN_ACTORS = [
    {"action": "pause", "key": "vm/stranger jobs"},
    {"action": "pause", "key": "worker/stranger jobs"},
    {"action": "resume", "key": "worker/stranger jobs"},
    {"action": "purge", "key": "worker/stranger jobs"},
    {"action": "answer", "actor": "vm/stranger", "session": "s", "ask": "a", "allow": True},
    {"action": "answer", "actor": "worker/stranger", "session": "s", "ask": "a", "allow": True},
    {"action": "stop", "actor": "vm/stranger", "session": "s"},
    {"action": "stop", "actor": "no name/at all", "session": "s"},
    {"action": "stop", "actor": "vm/" + "x" * 10_000, "session": "s"},
]


@pytest.mark.parametrize("asked", UNKNOWN_ACTORS, ids=lambda asked: f"{asked['action']} {list(asked.values())[1][:20]}")
async def test_no_message_of_a_page_creates_or_wakes_an_actor(world: World, asked: dict[str, Any]) -> None:
    await world.start(worker=Worker, vm=MACHINE)
    with pytest.raises(AgentqError):
        await overview(world).answer({"type": "do", **asked})
    assert (await world.registry.status()).actors == []
    events = (await world.registry.sql("select kind, actor_id from events where actor_id is not null")).rows
    assert events == []


async def test_what_a_page_says_about_a_vm_that_sleeps_does_not_wake_it(world: World) -> None:
    client = await world.start(vm=MACHINE)
    session = await client.vm.get_or_create("main").create_session("asker", keep=True)
    await world.registry.stop()
    await world.registry.start()
    shown = overview(world)
    await shown.look()
    named = {"type": "do", "actor": "vm/main", "session": session.session_id}
    told = await shown.answer({**named, "action": "stop"})
    assert told == {"note": "No prompt runs in this session."}
    with pytest.raises(AgentqError):
        await shown.answer({**named, "action": "answer", "ask": "a", "allow": True})
    assert world.registry.host.activations.find("vm/main") is None


@pytest.mark.parametrize("allow", [None, "yes", 1])
async def test_an_answer_that_is_neither_yes_nor_no_answers_nothing(world: World, allow: object) -> None:
    client = await world.start(vm=MACHINE)
    vm = client.vm.get_or_create("main")
    session = await vm.create_session("asker", keep=True)
    shown = overview(world)
    prompt = asyncio.create_task(vm.send_prompt(session.session_id, "make"))
    await until(lambda: asked_in(shown))
    ((ask, request),) = (await shown.look())["requests"].items()
    action = {"action": "answer", "actor": request["at"], "session": request["session"], "ask": ask}
    with pytest.raises(ValidationFailed):
        await shown.answer({"type": "do", **action, "allow": allow})
    assert list((await shown.look())["requests"]) == [ask]
    await shown.answer({"type": "do", **action, "allow": True})
    await prompt


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "page", "offset": True},
        {"type": "page", "offset": 10**400},
        {"type": "page", "offset": -1},
        {"type": "page", "status": ["all"]},
        {"type": "page", "search": "x" * 10_000},
        {"type": "choose", "session": ["x"]},
        {"type": "earlier", "session": "s", "before": 10**400},
        {"type": "show", "message": {"a": 1}},
        {"type": "show", "message": "x" * 100_000},
        {"type": ["do"]},
    ],
    ids=repr,
)
async def test_what_a_page_cannot_have_meant_is_refused_in_one_sentence(world: World, asked: dict[str, Any]) -> None:
    await world.start(worker=Worker)
    with pytest.raises(ValidationFailed, match="reload it"):
        await overview(world).answer(asked)


async def test_allowing_what_an_agent_asks_lets_it_go_on_and_its_transcript_is_followed(world: World) -> None:
    client = await world.start(vm=MACHINE)
    vm = client.vm.get_or_create("main")
    session = await vm.create_session("asker", keep=True)
    shown = overview(world)
    await shown.look()
    prompt = asyncio.create_task(vm.send_prompt(session.session_id, "make"))
    await until(lambda: asked_in(shown))
    seen = await shown.look()
    ((ask, request),) = seen["requests"].items()
    assert (request["title"], request["kind"], request["agent"]) == ("Run: make", "execute", "asker")
    assert seen["sessions"][session.session_id]["status"] == "running"
    await shown.answer({"type": "choose", "session": session.session_id})
    action = {"action": "answer", "actor": request["at"], "session": request["session"], "ask": ask, "allow": True}
    assert (await shown.answer({"type": "do", **action}))["note"] == "Allowed."
    assert (await prompt).text == "thinking. allowed"
    seen = await shown.look()
    assert seen["requests"] == {}
    blocks = [(block["type"], block["text"]) for block in seen["blocks"].values()]
    assert blocks[:2] == [("prompt", "make"), ("text", "thinking. ")]
    assert ("text", "allowed") in blocks
    await vm.close_session(session.session_id)
    assert (await shown.look())["sessions"][session.session_id]["status"] == "closed"
    with pytest.raises(AgentqError):
        await shown.answer({"type": "do", **action})


async def test_all_of_what_an_agent_asks_is_shown_in_the_dashboard_and_where_its_session_is_shown(world: World) -> None:
    client = await world.start(vm=MACHINE)
    vm = client.vm.get_or_create("main")
    session, other = [await vm.create_session("asker", keep=True) for _ in range(2)]
    script = "make clean\n" + "echo done; " * 100 + "rm -rf build"
    shown, small, elsewhere = overview(world), OneSession(world.registry, session), OneSession(world.registry, other)
    prompt = asyncio.create_task(vm.send_prompt(session.session_id, script))
    await until(lambda: asked_in(shown))
    for view in (shown, small):
        ((ask, request),) = (await view.look())["requests"].items()
        assert request["title"].startswith("Run: make clean echo done;")
        assert request["parts"] == [{"name": "asks", "text": f"Run: {script}", "diff": False}]
        assert request["too_long"] is None
    assert (await elsewhere.look())["requests"] == {}
    action = {"action": "answer", "actor": request["at"], "session": request["session"], "ask": ask, "allow": True}
    assert await small.answer({"type": "do", **action}) == {"note": "Allowed."}
    assert (await prompt).text.endswith("allowed")
    for view in (small, elsewhere):
        await view.close()


async def test_what_is_too_long_to_be_shown_whole_can_be_refused_on_a_page_and_allowed_only_in_a_cell(
    world: World,
) -> None:
    client = await world.start(vm=MACHINE)
    vm = client.vm.get_or_create("main")
    session = await vm.create_session("asker", keep=True)
    shown = overview(world)
    for answer in ("deny", "allow"):
        script = "echo; " * 40_000 + "rm -rf ~"
        prompt = asyncio.create_task(vm.send_prompt(session.session_id, script))
        await until(lambda: asked_in(shown))
        ((ask, request),) = (await shown.look())["requests"].items()
        assert request["parts"] == []
        assert request["too_long"] > 240_000
        action = {"action": "answer", "actor": request["at"], "session": request["session"], "ask": ask}
        with pytest.raises(ValidationFailed, match=r"'asker' asks is too long .* await vm.respond_permission"):
            await shown.answer({"type": "do", **action, "allow": True})
        (whole,) = await vm.list_permission_requests()
        assert whole.text.endswith(script)
        if answer == "deny":
            await shown.answer({"type": "do", **action, "allow": False})
        else:
            await vm.respond_permission(session.session_id, ask, "allow")
        assert (await prompt).text == f"thinking. {'allowed' if answer == 'allow' else 'refused'}"


async def test_what_agents_ask_is_put_together_once_however_often_it_is_looked_at(world: World) -> None:
    client = await world.start(vm=MACHINE)
    vm = client.vm.get_or_create("main")
    session = await vm.create_session("asker", keep=True)
    shown = overview(world)
    prompt = asyncio.create_task(vm.send_prompt(session.session_id, "make\n" * 10_000))
    await until(lambda: asked_in(shown))
    first, second = [(await shown.look())["requests"] for _ in range(2)]
    ((ask, request),) = first.items()
    assert second[ask]["parts"][0]["text"] is request["parts"][0]["text"]
    assert difference({"requests": first}, {"requests": second}) == {}
    await vm.respond_permission(session.session_id, ask, "deny")
    await prompt


async def test_an_error_is_shown_with_its_type(world: World) -> None:
    client = await world.start(worker=Worker)
    failed = await client.worker.get_or_create("main").send("jobs", "bad luck", wait=True)
    shown = overview(world)
    await shown.answer({"type": "page"})
    (row,) = (await shown.look())["messages"].values()
    assert (row["outcome"], row["bad"]) == ("ValueError: bad luck", True)
    told = (await shown.answer({"type": "show", "message": failed.message_id}))["shown"]
    assert told["attempts"].endswith("failed: ValueError: bad luck")
    card = OneMessage(world.registry, failed.message_id)
    assert (await card.look())["message"]["it"]["error"] == "ValueError: bad luck"


async def asked_in(shown: Overview) -> bool:
    return bool((await shown.look())["requests"])


async def test_hostile_text_is_safe_before_it_is_sent(world: World) -> None:
    async def hostile(session: Any, prompt: str) -> AsyncIterator[Any]:
        yield HOSTILE

    client = await world.start(worker=Worker, vm=agent_os(agents=[agents.function(hostile, name="<b>&\u202e")]))
    evil = HOSTILE[:300].encode("utf-8", "replace").decode()
    await client.worker.get_or_create(evil[:100]).send("jobs", "bad " + evil, wait=True)
    vm = client.vm.get_or_create("main")
    session = await vm.create_session("<b>&\u202e", keep=True)
    await vm.send_prompt(session.session_id, evil)
    shown = overview(world)
    await shown.look()
    await shown.answer({"type": "choose", "session": session.session_id})
    await shown.answer({"type": "page", "status": "all"})
    seen = await shown.look()
    texts = [value for section in seen.values() for row in section.values() for value in row.values()]
    (message,) = seen["messages"]
    texts += (await shown.answer({"type": "show", "message": message}))["shown"].values()
    for text in texts:
        if isinstance(text, str) and text != seen["sessions"][session.session_id]["at"]:
            assert not UNSAFE.search(text.replace("\n", ""))
            assert len(text) < 25_000


async def test_after_a_restart_the_sessions_and_messages_of_before_are_shown(world: World) -> None:
    client = await world.start(worker=Worker, vm=MACHINE)
    await client.worker.get_or_create("main").send("jobs", "one", wait=True)
    session = await client.vm.get_or_create("main").create_session("asker", keep=True)
    await world.crash(worker=Worker, vm=MACHINE)
    shown = overview(world)
    seen = await shown.look()
    assert session.session_id in seen["sessions"]
    await shown.answer({"type": "choose", "session": session.session_id})
    await shown.answer({"type": "page"})
    assert [row["outcome"] for row in (await shown.look())["messages"].values()] == ['"did one"']


async def test_a_session_that_began_and_ended_between_two_looks_is_shown(world: World) -> None:
    client = await world.start(vm=FAILING)
    shown = overview(world)
    await shown.look()
    vm = client.vm.get_or_create("main")
    session = await vm.create_session("failing")
    with pytest.raises(PromptFailed):
        await vm.send_prompt(session.session_id, "go")
    await vm.close_session(session.session_id)
    row = (await shown.look())["sessions"][session.session_id]
    assert (row["agent"], row["status"]) == ("failing", "closed")
    assert "could not compile" in row["said"]
    await shown.answer({"type": "choose", "session": session.session_id})
    blocks = (await shown.look())["blocks"].values()
    assert [block["type"] for block in blocks] == ["prompt", "text", "error"]


async def test_a_session_whose_turn_has_ended_shows_what_the_agent_said_last(world: World) -> None:
    client = await world.start(vm=FAILING)
    vm = client.vm.get_or_create("main")
    shown = overview(world)
    await shown.look()
    session = await vm.create_session("talker")
    await vm.send_prompt(session.session_id, "go")
    assert (await shown.look())["sessions"][session.session_id]["said"] == "I wrote result.txt."


async def test_the_end_of_a_long_answer_says_that_there_is_more(world: World) -> None:
    async def talker(session: object, prompt: str) -> str:
        return "word " * 40 + "end"

    client = await world.start(vm=agent_os(agents=[agents.function(talker)]))
    vm = client.vm.get_or_create("main")
    shown = overview(world)
    await shown.look()
    session = await vm.create_session("talker")
    await vm.send_prompt(session.session_id, "go")
    said = (await shown.look())["sessions"][session.session_id]["said"]
    assert said.startswith("…")
    assert said.endswith("word end")
    assert len(said) == 120


async def test_a_receipt_is_followed_until_its_message_is_settled(world: World) -> None:
    client = await world.start(worker=Worker)
    worker = client.worker.get_or_create("main")
    await worker.pause("jobs")
    await worker.send("jobs", "first")
    receipt = await worker.send("jobs", "second")
    shown = OneMessage(world.registry, receipt.id)
    row = (await shown.look())["message"]["it"]
    assert (row["status"], row["others"], shown.settled) == ("queued", 1, False)
    await worker.resume("jobs")
    await receipt.result(timeout=20)
    row = (await shown.look())["message"]["it"]
    assert (row["status"], row["reply"], shown.settled) == ("completed", "did second", True)


async def test_when_the_host_stops_everything_shown_of_it_is_settled(world: World) -> None:
    await world.start(worker=Worker)
    shown = overview(world)
    await shown.look()
    await world.registry.stop()
    with pytest.raises(AgentqError):
        await shown.look()
    assert shown.settled


async def test_of_depths_that_change_quickly_one_in_two_seconds_is_kept_and_the_last_one_always(
    slow_world: World,
) -> None:
    await slow_world.start()
    recorder = HistoryRecorder(slow_world.registry.lifecycle.host)
    for now, ready in ((0.0, 1), (0.5, 2), (1.0, 3), (2.0, 4), (2.5, 5), (9.0, 5), (10.0, 6)):
        recorder.sample([QueueStatus("worker/a", "tasks", ready=ready)], now)
    assert [(at, live) for at, live, _ in recorder.histories()["worker/a tasks"]] == [
        (0.0, 1),
        (1.0, 3),
        (2.5, 5),
        (10.0, 6),
    ]


async def test_a_transcript_is_kept_as_long_as_a_view_shows_it_and_read_again_for_the_next_one(world: World) -> None:
    client = await world.start(vm=FAILING)
    vm = client.vm.get_or_create("main")
    session = (await vm.create_session("talker", keep=True)).session_id
    recorder = HistoryRecorder(world.registry.lifecycle.host)
    await recorder.follow("vm/main", session)
    await recorder.follow("vm/main", session)
    assert recorder.followed[session].blocks.first == 0
    recorder.leave(session)
    assert session in recorder.followed
    recorder.leave(session)
    assert recorder.followed == {}
    await vm.send_prompt(session, "hello")
    await recorder.follow("vm/main", session)
    assert recorder.followed[session].blocks.first == 1
    recorder.close()
