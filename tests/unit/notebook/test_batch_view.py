"""What the live view of a batch shows, and when its output becomes a static one, without a kernel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agentq_nb._client.progress import Progress
from agentq_nb._client.progress_bar import on_waited, waited
from agentq_nb._client.receipt import Result
from agentq_nb._notebook import batch_view
from agentq_nb._notebook.batch_view import BatchView

pytestmark = pytest.mark.anyio

BEGUN = Progress(total=3, done=1, waiting=2)
DONE = Progress(total=3, done=3)
FAILED = Progress(total=3, done=2, failed=1)


class Rows:
    """A batch whose progress the test sets."""

    name = "images"

    def __init__(self) -> None:
        self.now = BEGUN

    def progress(self) -> Progress:
        return self.now

    async def failures(self) -> list[Result[Any]]:
        return [Result("failed", "m1", error={"message": "no such picture"}, row=2)] * self.now.failed


class Shown:
    """A view of such a batch, and what it has sent to the page."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.sent: list[dict[str, Any]] = []
        settings = SimpleNamespace(mode="auto")
        self.host: Any = SimpleNamespace(
            lifecycle=SimpleNamespace(keep_alive_settings=settings), before_stop=[], on_stop=[]
        )

    def view(self, progress: Progress = BEGUN) -> BatchView:
        self.rows.now = progress
        batch: Any = self.rows
        return BatchView(batch, self.host, progress, asyncio.get_running_loop())

    def display(self, forms: dict[str, Any], **options: Any) -> None:
        self.sent.append(forms)

    def stop(self) -> None:
        stopped: list[Callable[[], None]] = list(self.host.on_stop)
        for each in stopped:
            each()


@pytest.fixture
async def shown(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shown]:
    made = Shown()
    monkeypatch.setattr(batch_view, "display", made.display)
    yield made
    made.stop()


def is_live(view: BatchView) -> bool:
    return view.box.comm is not None


async def test_at_its_end_the_output_becomes_static_once(shown: Shown) -> None:
    view = shown.view()
    view.show()
    assert is_live(view)
    shown.sent.clear()
    view.settle()
    assert not is_live(view)
    (forms,) = shown.sent
    assert sorted(forms) == ["text/html", "text/plain"]
    view.settle()
    assert len(shown.sent) == 1


async def test_a_wait_that_ends_with_all_rows_done_settles_the_view(shown: Shown) -> None:
    view = shown.view()
    view.show()
    shown.rows.now = DONE
    await waited("another")
    assert is_live(view)
    await waited("images")
    assert not is_live(view)
    assert "3 of 3" in shown.sent[-1]["text/plain"]


@pytest.mark.parametrize("later", [FAILED, Progress(total=3, done=2, waiting=1)], ids=["failed", "not finished"])
async def test_a_wait_that_ends_before_that_shows_how_far_it_has_come(shown: Shown, later: Progress) -> None:
    view = shown.view()
    view.show()
    shown.rows.now = later
    await waited("images")
    assert is_live(view)
    assert view.bar.value == later.settled


async def test_failures_of_before_the_view_are_named_at_its_first_look(shown: Shown) -> None:
    view = shown.view(FAILED)
    assert "no such picture" not in view.text.value
    await view.look()
    assert "no such picture" in view.text.value


async def test_a_host_that_has_stopped_leaves_nothing_of_the_view_behind(shown: Shown) -> None:
    view = shown.view()
    before = list(on_waited)
    view.show()
    shown.stop()
    assert not is_live(view)
    assert (on_waited, shown.host.on_stop, shown.host.before_stop) == (before, [], [])
