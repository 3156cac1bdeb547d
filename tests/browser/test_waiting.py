"""Waits in the cells of a real JupyterLab: Run All ends in order, and nothing that arrives meanwhile is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import window
from tests.browser.driving import Lab
from tests.browser.serving import JupyterServer

SETUP = """
%load_ext agentq_nb
import asyncio
import ipywidgets
from pathlib import Path
from agentq_nb import Actor, Queue, create_client

ended, clicks, handled = [], [], []

class Echo(Actor):
    words = Queue(str, reply=str)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            if message.body.startswith("until"):
                Path("begun").touch()
                while not Path("release").exists():
                    await asyncio.sleep(0.02)
            handled.append(message.body)
            await message.complete(message.body.upper())

button = ipywidgets.Button(description="Click me")
button.on_click(lambda _: clicks.append(len(clicks) + 1))
button
"""

AWAITED = "x = %agentq ask echo/main words until awaited\nended.append(x.response)"
NESTED = "%%time\nx = %agentq ask echo/main words until nested\nended.append(x.response)"
IN_A_FUNCTION = "def ask():\n    x = %agentq ask echo/main words until inner\n    ended.append(x.response)\nask()"


KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"


@pytest.fixture(scope="module")
def one_window(chromium: Browser, server: JupyterServer) -> Iterator[Lab]:
    """A window with a host and one actor, for all tests that add cells of their own."""
    (server.root / "waiting").mkdir()
    with window(chromium, server) as opened:
        opened.open_cells(server.root / "waiting" / "waiting.ipynb", [SETUP, "%agentq start"])
        opened.run_all()
        yield opened


@pytest.fixture
def started(one_window: Lab) -> Lab:
    """That window, with all that was counted forgotten. The actor works until there is a file of the name release."""
    one_window.value(
        "[counted.clear() for counted in (ended, clicks, handled)], Path('release').unlink(missing_ok=True)"
    )
    return one_window


def wait_until_begun(lab: Lab) -> None:
    """The actor has the message, and works until it is released."""
    lab.until((lab.server.root / "waiting" / "begun").exists)
    lab.page.wait_for_timeout(200)  # it may begin a moment before the cell waits


def release(lab: Lab) -> None:
    (lab.server.root / "waiting" / "release").touch()


def ask_for_completions(lab: Lab, code: str) -> None:
    """Ask as the Tab key does, without waiting for the answer."""
    lab.page.evaluate(
        f"code => {{ window.completions = {KERNEL}.requestComplete({{ code, cursor_pos: code.length }}); }}", code
    )


def completions(lab: Lab) -> list[str]:
    """The answer."""
    return list(lab.page.evaluate("async () => (await window.completions).content.matches"))


def test_run_all_with_waits_in_several_cells_ends_in_order(lab: Lab, folder: Path) -> None:
    asks = [
        "x = %agentq ask echo/main words one\nended.append(x.response)",
        "%%time\nx = %agentq ask echo/main words two\nended.append(x.response)",
        "%%capture\nx = %agentq ask echo/main words three\nended.append(x.response)",
        "for word in ['four']:\n    x = %agentq ask echo/main words four\n    ended.append(x.response)",
        "def ask():\n    x = %agentq ask echo/main words five\n    ended.append(x.response)\nask()",
        "ended.append(await create_client().echo.get_or_create('main').send('words', 'six', wait=True))",
    ]
    lab.open_cells(folder / "order.ipynb", [SETUP, "%agentq start", *asks, "[*ended[:-1], ended[-1].response]"])
    cells = lab.run_all()
    assert cells[-1].text == "['ONE', 'TWO', 'THREE', 'FOUR', 'FIVE', 'SIX']"
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@pytest.mark.parametrize("waiting", [AWAITED, NESTED, IN_A_FUNCTION], ids=["awaited", "nested", "in-a-function"])
def test_clicks_completions_and_queued_cells_that_arrive_during_a_wait_are_not_lost(started: Lab, waiting: str) -> None:
    lab = started
    lab.start(waiting)
    wait_until_begun(lab)
    for number in range(3):
        lab.start(f"ended.append({number})")
    for _ in range(5):
        lab.notebook.get_by_role("button", name="Click me").click()
    ask_for_completions(lab, "ended.app")
    assert sum(cell.running for cell in lab.cells) == 4
    release(lab)
    lab.wait_until_done()
    assert not any(cell.failed for cell in lab.cells)
    assert lab.value("ended[1:]") == "[0, 1, 2]"
    assert lab.value("ended[0].startswith('UNTIL')") == "True"
    lab.until(lambda: lab.value("clicks") == "[1, 2, 3, 4, 5]")
    assert completions(lab) == ["append"]


@pytest.mark.parametrize("waiting", [AWAITED, NESTED], ids=["awaited", "nested"])
def test_the_stop_button_stops_the_waiting_and_never_the_work(started: Lab, waiting: str) -> None:
    lab = started
    lab.start(waiting)
    wait_until_begun(lab)
    lab.interrupt()
    lab.wait_until_done()
    assert "Stopped waiting for message" in lab.cells[-1].text
    assert lab.value("(handled, ended)") == "([], [])"
    release(lab)
    assert lab.run("x = %agentq ask echo/main words after\nx.response").text == "'AFTER'"
    assert lab.value("[handled[0].split()[0], handled[1]]") == "['until', 'after']"


TWO_QUEUES = """
%load_ext agentq_nb
import asyncio
from agentq_nb import Actor, Queue

class Echo(Actor):
    words = Queue(str, reply=str)
    other = Queue(str)

    async def run(self):
        async for message in self.queue.iter(["words"], completable=True):
            await asyncio.sleep(0.3)
            await message.complete(message.body.upper())
"""


@pytest.mark.parametrize("application", ["lab", "notebook7"])
def test_clicks_on_the_dashboard_while_many_cells_wait_are_heard_and_each_cell_keeps_its_output(
    request: pytest.FixtureRequest, application: str
) -> None:
    lab: Lab = request.getfixturevalue(application)
    cells = [TWO_QUEUES, "%agentq start", "%agentq send echo/main other x;", "%agentq dashboard"]
    lab.open_cells(lab.server.root / "clicks" / "clicks.ipynb", cells)
    lab.run_all()
    asks = [f"x = %agentq ask echo/main words word{number}\nprint({number})\nx.response" for number in range(50)]
    shown = lab.notebook.locator("[data-agentq=dashboard]")
    while_waiting = 0
    for ask, label in zip(asks, itertools.cycle(("Pause", "Resume"))):
        lab.start(ask)
        while_waiting += any(cell.running for cell in lab.cells)
        shown.get_by_role("button", name=f"{label} queue other").click(timeout=15_000)  # there once the last was heard
    expect(shown.get_by_role("button", name="Pause queue other")).to_be_visible(timeout=15_000)
    assert while_waiting > 10
    lab.wait_until_done()
    ended = lab.cells[len(cells) :]
    assert [cell.source for cell in ended] == asks
    assert [cell.text for cell in ended] == [f"{number}\n\n'WORD{number}'" for number in range(50)]
