"""The dashboard in a real kernel, spoken to as a page does: over the widget's comm. No page draws anything here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.driving import Kernel

ACTORS = """
import asyncio
from agentq_nb import Actor, Queue, create_client

class Worker(Actor):
    jobs = Queue(str, reply=str)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            if message.body == "bad":
                await message.fail("it was bad")
            else:
                await message.complete(f"did {message.body}")
"""
WIDGET = "application/vnd.jupyter.widget-view+json"


class Page(Kernel):
    """A kernel, and what it sends to widgets."""

    def __init__(self, cwd: Path) -> None:
        super().__init__(cwd)
        self.told: dict[str, list[dict[str, Any]]] = {}
        """The custom messages of each widget."""
        self.states: dict[str, dict[str, Any]] = {}
        self.updates: list[dict[str, Any]] = []
        """What outputs that were shown earlier are replaced with."""

    def _published(self, message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "comm_open":
            self.states[content["comm_id"]] = content["data"]["state"]
        elif message["msg_type"] == "comm_msg" and content["data"].get("method") == "custom":
            self.told.setdefault(content["comm_id"], []).append(content["data"]["content"])
        elif message["msg_type"] == "update_display_data":
            self.updates.append(content["data"])
        super()._published(message)

    def say(self, widget: str, subshell: str | None = None, **content: Any) -> None:
        """What the page's side of a widget sends."""
        self.say_data(widget, {"method": "custom", "content": content}, subshell)

    def say_data(self, widget: str, data: dict[str, Any], subshell: str | None = None) -> None:
        """Any data over a widget's comm."""
        assert self._client is not None
        message = self._client.session.msg("comm_msg", {"comm_id": widget, "data": data})
        message["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(message)

    def control(self, kind: str, **content: Any) -> dict[str, Any]:
        """Ask on the kernel's second channel."""
        assert self._client is not None
        self._client.control_channel.send(self._client.session.msg(kind, content))
        return self._client.get_control_msg(timeout=30)["content"]

    def hear(self, widget: str, wanted: Callable[[dict[str, Any]], object], seconds: float = 30) -> dict[str, Any]:
        """The first message of a widget like that; those before it are dropped."""
        deadline = time.monotonic() + seconds
        while True:
            heard = self.told.setdefault(widget, [])
            while heard:
                if wanted(message := heard.pop(0)):
                    return message
            assert time.monotonic() < deadline, "the widget never said it"
            self.listen(0.1)


@pytest.fixture(params=["start", "start --background"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    with Page(tmp_path) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run(ACTORS).check()
        kernel.run(f"%agentq {request.param}").check()
        yield kernel


def test_a_page_is_heard_when_the_subshell_that_another_talked_over_is_gone(page: Page) -> None:
    widget = opened(page)
    subshell = page.control("create_subshell_request")["subshell_id"]
    page.say(widget, subshell, type="watch", have=0)
    page.hear(widget, lambda message: message["type"] == "snapshot")
    page.control("delete_subshell_request", subshell_id=subshell)
    page.hear(widget, lambda message: message["type"] == "heartbeat")
    page.say(widget, type="watch", have=0)
    page.hear(widget, lambda message: message["type"] == "snapshot", seconds=10)


def opened(page: Page) -> str:
    """A dashboard that a page has opened; its widget's id."""
    cell = page.run("%agentq dashboard").check()
    (shown,) = cell.displays
    assert set(shown) == {WIDGET, "text/html", "text/plain"}
    widget = shown[WIDGET]["model_id"]
    page.say(widget, type="watch", have=0)
    snapshot = page.hear(widget, lambda message: message["type"] == "snapshot")
    assert snapshot["sections"]["host"]["it"]["running"] is True
    return str(widget)


def waiting(message: dict[str, Any]) -> object:
    return message.get("set", {}).get("queues", {}).get("worker/main jobs", {}).get("handled")


def test_changes_come_by_themselves_and_clicks_while_a_cell_awaits_are_answered(page: Page) -> None:
    widget = opened(page)
    page.run(
        "worker = create_client().worker.get_or_create('main')\nawait worker.send('jobs', 'one', wait=True)"
    ).check()
    changed = page.hear(widget, waiting)
    assert changed["set"]["queues"]["worker/main jobs"]["handled"] == 1
    cell = page.submit(
        "async def paused():\n    return (await worker.status()).queues[0].paused\nwhile not await paused():\n    await asyncio.sleep(0.05)"
    )
    page.say(widget, type="do", action="pause", key="worker/main jobs", request=7)
    told = page.hear(widget, lambda message: message.get("request") == 7)
    assert told["note"] == "Paused jobs: what is being handled is finished."
    page.wait(cell).check()
    page.say(widget, type="do", action="resume", key="worker/main nothing", request=8)
    told = page.hear(widget, lambda message: message.get("request") == 8)
    assert "nothing" in told["error"]
    assert "\n" not in told["error"]


def test_a_flood_of_requests_is_dropped_but_for_fifty_a_second_and_the_page_is_told(page: Page) -> None:
    widget = opened(page)
    worker = "create_client().worker.get_or_create('main')"
    page.run(f"await {worker}.send('jobs', 'one', wait=True)").check()
    for number in range(300):  # of many more, answers would be lost on their way to us
        page.say(widget, type="do", action="pause", key="worker/main jobs", request=number)
    assert page.hear(widget, lambda message: message["type"] == "dropped")["count"] > 0
    page.run("1").check()
    pauses = page.run("%agentq sql select count(*) from events where kind = 'queue.paused'").check().text
    assert 50 <= int(pauses.split()[-1]) < 300
    page.listen(1.1)
    page.say(widget, type="do", action="resume", key="worker/main jobs", request=5_000)
    assert page.hear(widget, lambda message: message.get("request") == 5_000)["note"] == "jobs is resumed."


def test_a_page_can_change_nothing_of_what_the_kernel_shows(page: Page) -> None:
    page.run("import agentq_nb\nshown = agentq_nb.dashboard()").check()
    page.say_data(str(page.value("shown.model_id")), {"method": "update", "state": {"kind": "evil", "saved": {"a": 1}}})
    assert page.value("(shown.kind, shown.saved)") == ["dashboard", {}]


def test_nothing_but_heartbeats_is_sent_when_nothing_changes(page: Page) -> None:
    widget = opened(page)
    page.listen(2)
    page.told[widget].clear()
    page.listen(4)
    heartbeats = [message for message in page.told[widget] if message["type"] != "picture"]  # of what changed before
    assert {message["type"] for message in heartbeats} == {"heartbeat"}
    assert len(heartbeats) <= 5
    assert len(page.told[widget]) - len(heartbeats) <= 1


def test_a_reloaded_page_gets_the_whole_state_again(page: Page) -> None:
    widget = opened(page)
    page.run("await create_client().worker.get_or_create('main').send('jobs', 'bad', wait=True)").check()
    page.hear(widget, lambda message: "it was bad" in str(message.get("set", {}).get("messages")))
    page.say(widget, type="watch", have=0)
    snapshot = page.hear(widget, lambda message: message["type"] == "snapshot")
    assert snapshot["sections"]["queues"]["worker/main jobs"]["dead"] == 1
    assert [row["outcome"] for row in snapshot["sections"]["messages"].values()] == ["it was bad"]
    assert snapshot["history"]["worker/main jobs"][-1][2] == 1


@pytest.mark.parametrize(
    "end",
    [
        "%agentq stop",
        "from agentq_nb import current_registry\nawait current_registry().stop()",
        "%unload_ext agentq_nb",
    ],
)
def test_at_its_end_the_output_becomes_a_picture_of_the_last_state(page: Page, end: str) -> None:
    widget = opened(page)
    page.run("await create_client().worker.get_or_create('main').send('jobs', 'bad', wait=True)").check()
    page.hear(widget, lambda message: "it was bad" in str(message.get("set", {}).get("messages")))
    page.updates.clear()
    page.run(end).check()
    (update,) = page.updates
    assert set(update) == {"text/html", "text/plain"}
    assert "it was bad" in update["text/plain"]
    page.listen(1.5)
    page.told[widget].clear()
    page.listen(2)
    assert page.told[widget] == []
    page.say(widget, type="watch", have=0)  # of a page that was being loaded in the meantime
    assert page.hear(widget, lambda message: message["type"] == "picture")["data"] == update
    snapshot = page.hear(widget, lambda message: message["type"] == "snapshot")
    assert snapshot["settled"] is True
    assert [row["outcome"] for row in snapshot["sections"]["messages"].values()] == ["it was bad"]


def test_a_picture_shows_the_end_also_where_no_page_was_open(page: Page) -> None:
    page.run("%agentq dashboard").check()
    page.updates.clear()
    page.run(
        "handle = create_client().worker.get_or_create('main')\n"
        "for number in range(30): await handle.send('jobs', f'job {number}')\n"
        "await handle.send('jobs', 'bad', wait=True)\n"
        "%agentq stop"
    ).check()
    (update,) = page.updates
    assert "it was bad" in update["text/plain"]
    assert "queued" not in update["text/plain"]


def test_the_kernel_leaves_pictures_when_it_is_shut_down(page: Page) -> None:
    opened(page)
    assert page._manager is not None
    assert page._client is not None
    page.updates.clear()
    page._client.shutdown()
    deadline = time.monotonic() + 20
    while not page.updates and time.monotonic() < deadline:
        page._read(0.2)
    assert set(page.updates[0]) == {"text/html", "text/plain"}


def test_a_receipt_at_the_end_of_a_cell_becomes_its_result(page: Page) -> None:
    cell = page.run("await create_client().worker.get_or_create('main').send('jobs', 'one')").check()
    (shown,) = cell.displays
    assert set(shown) == {WIDGET, "text/html", "text/plain"}
    deadline = time.monotonic() + 30
    while not any("did one" in update["text/plain"] for update in page.updates):
        assert time.monotonic() < deadline
        page.listen(0.1)
    assert WIDGET not in page.updates[-1]
    assert page.run("[await create_client().worker.get_or_create('main').send('jobs', 'two')]").check().results


def test_it_composes_like_any_widget_and_is_loaded_only_when_asked_for(page: Page) -> None:
    assert page.value("'anywidget' in __import__('sys').modules") is False
    page.run("import agentq_nb, ipywidgets\nshown = agentq_nb.dashboard()\nbox = ipywidgets.VBox([shown])").check()
    assert WIDGET in page.run("box").check().results[0]
    assert page.value("shown.kind") == "dashboard"


def test_without_a_host_it_says_what_to_type(page: Page) -> None:
    page.run("%agentq stop").check()
    cell = page.run("%agentq dashboard")
    assert cell.error_name == "NoHost"
    assert "%agentq start" in str(cell.error_value)
    assert "\n" not in cell.traceback.strip()
