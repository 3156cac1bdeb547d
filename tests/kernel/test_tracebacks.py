"""What a cell shows of errors that came through the package: the user's own lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import NAMES_OF_PLACES, PLACES
from tests.kernel.driving import Kernel

CELL = """
import asyncio, json
from agentq_nb import Actor, Queue, Retry, action, create_client

class Echo(Actor):
    words = Queue(str, reply=str)

    @action
    async def parse(self, text):
        return json.loads(text)

    @action
    async def rest(self):
        await asyncio.sleep(600)
"""


@pytest.fixture(scope="module", params=PLACES, ids=NAMES_OF_PLACES)
def echo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder: Path = tmp_path_factory.mktemp("tracebacks")
    with Kernel(folder, background=request.param) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run(CELL).check()
        kernel.run("%agentq start").check()
        kernel.run("echo = create_client().echo.get_or_create('main')").check()
        yield kernel


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("def mine():\n    return echo.send('wrods', 'x')\nawait mine()", "has no queue 'wrods'"),
        ("await echo.send('words', 7)", "validation_error"),
        ("await echo.send('words', 'x', timeout=1)", "timeout is for waiting"),
        ("await echo.parse('{')", "JSONDecodeError"),
        ("await create_client().receipt('nothing').result()", "No message 'nothing'"),
        ("Queue(str, max_size=0)", "max_size"),
    ],
)
def test_a_traceback_in_a_cell_shows_the_users_lines_only(echo: Kernel, cell: str, says: str) -> None:
    ended = echo.run(cell)
    assert ended.status == "error"
    assert says in ended.traceback
    assert "Cell In" in ended.traceback
    for other in ("agentq_nb/", "/anyio/", "/asyncio/", "interactiveshell.py"):
        assert other not in ended.traceback


def test_a_traceback_keeps_the_frames_of_other_libraries(echo: Kernel) -> None:
    assert "json/decoder.py" in echo.run("await echo.parse('{')").traceback


def test_a_stored_traceback_names_the_cell_as_the_notebook_numbers_it(echo: Kernel) -> None:
    number = echo.value("len(In)")
    echo.run(
        "class Failing(Actor):\n"
        "    words = Queue(str, retry=Retry(attempts=1))\n"
        "    async def run(self):\n"
        "        async for message in self.queue.iter():\n"
        "            json.loads(message.body)\n"
    ).check()
    asked = "failed = %agentq ask failing/main words --no-check '{'"
    shown = echo.run(f"{asked}\nprint(failed.error['traceback'])").check().stdout
    assert f"Cell In[{number}], line 5, in run" in shown
    assert "ipykernel_" not in shown


def test_an_error_that_has_nothing_to_do_with_the_package_is_shown_as_ever(echo: Kernel) -> None:
    ended = echo.run("async def work():\n    raise ValueError('mine')\nawait asyncio.wait_for(work(), 5)")
    assert "asyncio" in ended.traceback
    assert "raise ValueError" in ended.traceback


@pytest.mark.parametrize(
    "cell",
    [
        "await create_client().receipt(kept.id).result()",
        "await echo.send('words', 'x', wait=True)",
        "await echo.rest()",
    ],
)
def test_an_interrupted_wait_ends_in_one_line(echo: Kernel, cell: str) -> None:
    echo.run("kept = await echo.send('words', 'x')").check()
    waiting = echo.submit(cell)
    echo.listen(0.5)
    echo.interrupt()
    ended = echo.wait(waiting)
    assert ended.status == "error"
    assert ended.error_name in ("CancelledError", "KeyboardInterrupt")
    assert len(ended.traceback.splitlines()) == 1
    assert "Stopped waiting" in ended.traceback


def test_unloading_gives_the_shell_its_own_tracebacks_back(echo: Kernel) -> None:
    echo.run("%unload_ext agentq_nb").check()
    assert echo.value("len(get_ipython().custom_exceptions)") == 0
    echo.run("%load_ext agentq_nb").check()
    assert echo.value("len(get_ipython().custom_exceptions)") == 3
