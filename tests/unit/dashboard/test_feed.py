"""When something is sent to a page, and what: on a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentq_nb._host.background_tasks import Upkeep
from agentq_nb._notebook.dashboard.page_requests import RequestRateLimit
from agentq_nb._notebook.dashboard.sync import WATCHED, Message, PageSync
from agentq_nb.errors import AgentqError
from tests.unit.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio


class Counter:
    """A subject that counts its looks, and whose one row the test changes."""

    def __init__(self) -> None:
        self.settled = False
        self.closed = False
        self.looks = 0
        self.changing = False
        self.value = 0

    async def look(self, *, refresh: bool = False) -> dict[str, dict[str, dict[str, Any]]]:
        self.looks += 1
        self.value += self.changing
        return {"figures": {"it": {"value": self.value}}}

    async def extras(self) -> Mapping[str, Any]:
        return {"history": {}}

    async def answer(self, asked: Message) -> Message:
        if asked["type"] == "wrong":
            raise AgentqError("It cannot\nbe done: \x1b[31mno\x1b[0m.")
        if asked["type"] == "broken":
            raise ZeroDivisionError("by zero")
        return {"note": "done"}

    async def close(self) -> None:
        self.closed = True


class Running:
    """A feed at work, and what it has sent."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.subject = Counter()
        self.sent: list[Message] = []
        self.alive = True
        self.feed = PageSync(self.subject, self.sent.append, self.clock, kept_alive=lambda: self.alive)

    def types(self) -> list[str]:
        return [message["type"] for message in self.sent]

    async def opened(self) -> None:
        """A page was opened and has its whole state."""
        self.feed.heard({"type": "watch", "have": 0})
        await self.clock.pass_by(0.3)
        assert self.types() == ["snapshot"]
        self.sent.clear()


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    made = Running()
    task = asyncio.create_task(made.feed.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert made.subject.closed


async def test_nothing_is_sent_while_nobody_watches() -> None:
    async with running() as at:
        at.subject.changing = True
        await at.clock.pass_by(60)
        assert at.sent == []
        assert at.subject.looks < 80


async def test_while_nobody_watches_it_is_looked_at_every_ten_seconds_and_at_once_when_a_page_opens() -> None:
    async with running() as at:
        await at.clock.pass_by(60)
        assert 6 <= at.subject.looks <= 7
        before, at.subject.changing = at.feed.latest_at, True
        at.feed.heard({"type": "watch", "have": 0})
        await at.clock.pass_by(0.3)
        assert at.sent[0]["sections"]["figures"]["it"]["value"] > 0
        assert at.feed.latest_at > before


async def test_a_page_that_opens_gets_the_whole_state_at_once() -> None:
    async with running() as at:
        await at.clock.pass_by(10)
        at.feed.heard({"type": "watch", "have": 0})
        await at.clock.pass_by(0.15)
        (snapshot,) = at.sent
        assert snapshot["sections"] == {"figures": {"it": {"value": 0}}}
        assert snapshot["history"] == {}


async def test_nothing_but_a_heartbeat_each_second_is_sent_when_nothing_changes() -> None:
    async with running() as at:
        await at.opened()
        await at.clock.pass_by(30)
        assert set(at.types()) == {"heartbeat"}
        assert 25 <= len(at.sent) <= 31
        assert all(set(heartbeat) == {"type", "number", "time", "elapsed"} for heartbeat in at.sent)


async def test_at_most_ten_updates_a_second_are_sent_numbered_one_by_one() -> None:
    async with running() as at:
        await at.opened()
        at.subject.changing = True
        await at.clock.pass_by(10)
        assert 90 <= len(at.sent) <= 100
        assert [message["number"] for message in at.sent] == list(range(2, len(at.sent) + 2))
        assert at.sent[-1]["set"] == {"figures": {"it": {"value": at.subject.value}}}


@pytest.mark.parametrize("have", [0, 1, 7])
async def test_a_page_that_missed_something_gets_the_whole_state_again(have: int) -> None:
    async with running() as at:
        await at.opened()
        at.subject.value = 5
        await at.clock.pass_by(0.2)
        assert at.types() == ["patch"]
        at.feed.heard({"type": "watch", "have": have})
        await at.clock.pass_by(0.2)
        assert at.types()[1:] == ["snapshot"]
        assert at.sent[-1]["number"] == 3


async def test_a_page_that_has_everything_gets_nothing_again() -> None:
    async with running() as at:
        await at.opened()
        at.feed.heard({"type": "watch", "have": 1})
        await at.clock.pass_by(0.5)
        assert at.sent == []


async def test_a_page_that_is_closed_is_forgotten() -> None:
    async with running() as at:
        await at.opened()
        await at.clock.pass_by(WATCHED + 1)
        at.sent.clear()
        at.subject.changing = True
        await at.clock.pass_by(60)
        assert at.sent == []


async def test_what_was_never_sent_because_nobody_watched_is_in_the_next_whole_state() -> None:
    async with running() as at:
        await at.opened()
        await at.clock.pass_by(WATCHED + 1)
        at.subject.value = 9
        await at.clock.pass_by(5)
        at.sent.clear()
        at.feed.heard({"type": "watch", "have": 1})
        await at.clock.pass_by(0.9)
        assert [message.get("set") for message in at.sent] == [{"figures": {"it": {"value": 9}}}]


async def test_a_settled_subject_is_told_once_more_and_never_again() -> None:
    async with running() as at:
        await at.opened()
        at.subject.value, at.subject.settled = 3, True
        await at.clock.pass_by(20)
        (last,) = at.sent
        assert last["settled"] is True
        assert last["set"] == {"figures": {"it": {"value": 3}}}
        looks = at.subject.looks
        await at.clock.pass_by(20)
        assert at.subject.looks == looks


async def test_what_a_page_asks_is_answered_and_an_error_is_one_safe_line() -> None:
    async with running() as at:
        for request, kind in enumerate(("right", "wrong", "broken")):
            at.feed.heard({"type": kind, "request": request})
            await settle()
        assert at.sent == [
            {"type": "answer", "request": 0, "note": "done"},
            {"type": "answer", "request": 1, "error": "It cannot be done: no."},
            {"type": "answer", "request": 2, "error": "ZeroDivisionError: by zero"},
        ]


async def test_a_page_has_a_picture_that_is_at_most_ten_seconds_old_and_none_twice() -> None:
    made = Running()

    async def draw() -> dict[str, int]:
        return {"data": made.subject.value}

    made.feed = PageSync(made.subject, made.sent.append, made.clock, picture=draw)
    task = asyncio.create_task(made.feed.run())

    def pictures() -> list[int]:
        return [message["data"] for message in made.sent if message["type"] == "picture"]

    await made.clock.pass_by(5)
    assert made.sent == []
    made.feed.heard({"type": "watch", "have": 0})
    await made.clock.pass_by(0.3)
    assert made.types() == ["snapshot", "picture"]
    await made.clock.pass_by(30)
    assert pictures() == [0]
    made.subject.value = 1
    await made.clock.pass_by(0.3)
    assert pictures() == [0, 1]
    made.subject.changing = True
    await made.clock.pass_by(30)
    made.subject.changing = False
    await made.clock.pass_by(11)
    assert 4 <= len(pictures()) <= 6
    assert pictures()[-1] == made.subject.value
    made.feed.heard({"type": "watch", "have": 0})  # a page that was reloaded has none
    await made.clock.pass_by(0.3)
    assert made.types()[-2:] == ["snapshot", "picture"]
    made.feed.last_word({"data": -1})
    assert (made.types()[-2:], pictures()[-1]) == (["picture", "heartbeat"], -1)
    task.cancel()
    await asyncio.wait([task])


async def test_a_page_that_opens_after_the_end_gets_the_last_state_and_the_picture() -> None:
    async with running() as at:
        at.subject.value, at.subject.settled = 3, True
        await at.clock.pass_by(20)
        at.feed.last_word({"data": 3})
        assert at.sent == []  # no page was open
        for _ in ("it opens", "it is reloaded"):
            at.feed.heard({"type": "watch", "have": 0})
            picture, snapshot = at.sent
            assert (picture["type"], picture["data"]) == ("picture", 3)
            assert snapshot["type"] == "snapshot"
            assert snapshot["settled"] is True
            assert snapshot["sections"] == {"figures": {"it": {"value": 3}}}
            at.sent.clear()
        await at.clock.pass_by(20)
        assert at.sent == []


async def test_what_a_page_asks_beyond_fifty_times_a_second_is_dropped_and_told_once() -> None:
    async with running() as at:
        await at.opened()
        for request in range(10_000):
            at.feed.heard({"type": "right", "request": request})
        await at.clock.pass_by(0.5)
        assert at.types().count("answer") == 50
        (told,) = [message for message in at.sent if message["type"] == "dropped"]
        assert told["count"] == 9_950
        await at.clock.pass_by(1)
        at.sent.clear()
        at.feed.heard({"type": "right", "request": 10_001})
        await at.clock.pass_by(0.5)
        assert [message["request"] for message in at.sent if message["type"] == "answer"] == [10_001]
        await at.clock.pass_by(10)
        assert "dropped" not in at.types()


async def test_pages_share_what_the_kernel_listens_to_and_opening_one_counts_for_nothing() -> None:
    rate_limit, sent = RequestRateLimit(), list[Message]()
    feeds = [PageSync(Counter(), sent.append, FakeClock(), rate_limit=rate_limit) for _ in range(3)]
    for feed in feeds:
        for _ in range(40):
            feed.heard({"type": "watch", "have": 0})
            feed.heard({"type": "right", "request": 1})
    await settle()
    assert len(sent) == 50
    assert all(feed.watched for feed in feeds)


@pytest.mark.parametrize("request_id", [None, "x" * 1_000_000, {"a": 1}, math.nan])
async def test_what_names_no_request_is_not_sent_back(request_id: object) -> None:
    async with running() as at:
        at.feed.heard({"type": "right", "request": request_id})
        await settle()
        assert at.sent == [{"type": "answer", "request": None, "note": "done"}]


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_page_that_cannot_be_reached_is_trouble_and_gets_the_whole_state_once_it_can() -> None:
    made = Running()
    upkeep = Upkeep(made.clock)
    broken = True

    def send(message: Message) -> None:
        if broken:
            raise OSError("the socket is closed")
        made.sent.append(message)

    made.feed = PageSync(made.subject, send, made.clock, upkeep, "Keeping the dashboard up to date")
    running_feed = asyncio.create_task(made.feed.run())
    made.feed.heard({"type": "watch", "have": 0})
    await made.clock.pass_by(5)
    said = "Keeping the dashboard up to date failed: OSError: the socket is closed. It is tried again."
    assert upkeep.trouble == said
    broken = False
    await made.clock.pass_by(31)
    assert "snapshot" in made.types()
    assert upkeep.trouble is None
    running_feed.cancel()
    await asyncio.wait([running_feed])


async def test_a_subject_that_cannot_be_looked_at_is_trouble_and_looked_at_more_and_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Running()
    upkeep = Upkeep(made.clock)
    made.feed = PageSync(made.subject, made.sent.append, made.clock, upkeep, "Keeping the dashboard up to date")
    looks = 0

    async def fail() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(made.subject, "look", fail)
        running_feed = asyncio.create_task(made.feed.run())
        made.feed.heard({"type": "watch", "have": 0})
        await made.clock.pass_by(30)
        assert "MemoryError" in (upkeep.trouble or "")
        assert looks <= 10
        assert made.types().count("heartbeat") >= 25  # the page sees that the kernel lives
    await made.clock.pass_by(31)
    assert upkeep.trouble is None
    with monkeypatch.context() as patched:
        looks = 0
        patched.setattr(made.subject, "look", fail)
        await made.clock.pass_by(0.35)
        assert looks == 2  # the pauses begin to grow again with the shortest
    running_feed.cancel()
    await asyncio.wait([running_feed])


async def test_a_look_that_takes_long_is_followed_by_a_pause_four_times_as_long() -> None:
    async with running() as at:
        look = at.subject.look

        async def slowly(**options: Any) -> Any:
            await at.clock.sleep(0.5)
            return await look(**options)

        at.subject.look = slowly  # type: ignore[method-assign]
        at.feed.heard({"type": "watch", "have": 0})
        await at.clock.pass_by(25)
        assert 8 <= at.subject.looks <= 11


async def test_while_nothing_keeps_the_kernel_alive_nothing_is_sent_a_minute_after_a_page_asked() -> None:
    async with running() as it:
        it.alive = False
        await it.opened()
        await it.clock.pass_by(55)
        assert it.types().count("heartbeat") >= 50
        assert all(message["quiet"] for message in it.sent)
        await it.clock.pass_by(10)
        it.sent.clear()
        it.subject.changing = True
        await it.clock.pass_by(600)
        assert it.sent == []


async def test_a_page_that_asked_before_it_fell_quiet_is_told_once_the_kernel_is_kept_alive_again() -> None:
    async with running() as it:
        await it.opened()
        it.alive = False
        await it.clock.pass_by(120)
        it.sent.clear()
        it.subject.value += 1
        it.alive = True
        await it.clock.pass_by(2)
        assert it.types()[0] == "patch"
        assert not any("quiet" in message for message in it.sent)


async def test_a_picture_that_cannot_be_drawn_is_told_once_and_all_else_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = Running()
    upkeep = Upkeep(made.clock)

    async def fail() -> dict[str, Any]:
        raise KeyError("host")

    made.feed = PageSync(made.subject, made.sent.append, made.clock, upkeep, "Keeping it up to date", picture=fail)
    task = asyncio.create_task(made.feed.run())
    made.feed.heard({"type": "watch", "have": 0})
    await made.clock.pass_by(10)
    assert (made.types()[0], set(made.types()[1:])) == ("snapshot", {"heartbeat"})
    assert upkeep.trouble is None
    assert [record.getMessage() for record in caplog.records if "KeyError" in record.getMessage()] == [
        "Keeping it up to date failed: KeyError: 'host'. It is tried again."
    ]
    task.cancel()
    await asyncio.wait([task])


async def test_a_page_that_was_closed_long_ago_is_told_nothing_when_the_kernel_is_kept_alive_again() -> None:
    async with running() as it:
        await it.opened()
        await it.clock.pass_by(WATCHED + 2)
        it.alive = False
        await it.clock.pass_by(10)
        it.sent.clear()
        it.alive = True
        await it.clock.pass_by(10)
        assert it.sent == []
