"""Waiting in the cells of a real kernel: where it stands, in which order, and what an interrupt stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import IN_BOTH_PLACES, NAMES_OF_PLACES, PLACES
from tests.kernel.driving import Kernel

ECHO = """
import asyncio
from agentq_nb import Actor, Queue

handled = []

class Echo(Actor):
    words = Queue(str, reply=str)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            if message.body == "fail":
                await message.fail("as it was told")
                continue
            if message.body.startswith("slow"):
                await asyncio.sleep(0.5)
            handled.append(message.body)
            await message.complete(message.body.upper())
"""


@pytest.fixture(scope="module", params=PLACES, ids=NAMES_OF_PLACES)
def echo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with a host and one actor."""
    folder: Path = tmp_path_factory.mktemp("waiting")
    with Kernel(folder, background=request.param) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run(ECHO).check()
        kernel.run("%agentq start").check()
        yield kernel


@pytest.mark.parametrize(
    "cell",
    [
        "x = %agentq ask echo/main words hello\nx.response",
        "for word in 'ab':\n    x = %agentq ask echo/main words hello\nx.response",
        "if True:\n    try:\n        x = %agentq ask echo/main words hello\n    finally:\n        pass\nx.response",
        "def f():\n    x = %agentq ask echo/main words hello\n    return x\nf().response",
        "async def f():\n    x = %agentq ask echo/main words hello\n    return x\n(await f()).response",
        "class A:\n    x = %agentq ask echo/main words hello\nA.x.response",
        "get_ipython().run_line_magic('agentq', 'ask echo/main words hello').response",
        "get_ipython().run_cell('%agentq ask echo/main words hello').result.response",
        "%%time\nx = %agentq ask echo/main words hello\nx.response",
    ],
)
def test_a_cell_gets_the_reply_wherever_the_magic_stands(echo: Kernel, cell: str) -> None:
    assert echo.run(cell).check().text == "'HELLO'"


def test_a_captured_cell_waits_too(echo: Kernel) -> None:
    echo.run("%%capture out\nx = %agentq ask echo/main words captured\nprint(x.response)").check()
    assert echo.value("out.stdout") == "CAPTURED\n"


def test_a_cell_waits_also_when_await_is_switched_off(echo: Kernel) -> None:
    echo.run("%autoawait False").check()
    try:
        assert echo.run("x = %agentq ask echo/main words off\nx.response").check().text == "'OFF'"
    finally:
        echo.run("%autoawait True").check()


def test_run_all_with_waits_in_several_cells_ends_in_order(echo: Kernel) -> None:
    cells = echo.run_all(
        [
            "order = []",
            "x = %agentq ask echo/main words slow one\norder.append(x.response)",
            "%%time\nx = %agentq ask echo/main words slow two\norder.append(x.response)",
            "def f():\n    x = %agentq ask echo/main words slow three\n    order.append(x.response)\nf()",
            "x = %agentq ask echo/main words four\norder.append(x.response)",
            "order.append('end')",
        ]
    )
    assert [cell.status for cell in cells] == ["ok"] * 6
    assert [cell.order for cell in cells] == sorted(cell.order for cell in cells)
    assert echo.value("order") == ["SLOW ONE", "SLOW TWO", "SLOW THREE", "FOUR", "end"]


def nested(line: str) -> str:
    """A cell in which no ``await`` can stand before the line. Errors in ``%%time`` fail no cell in old versions of IPython."""
    return f"def ask():\n    {line}\nask()"


@pytest.mark.parametrize("how", ["awaited", "nested"])
def test_an_interrupt_stops_the_waiting_and_the_work_goes_on(echo: Kernel, how: str) -> None:
    word = f"slow {how}"
    line = f"%agentq ask echo/main words {word}"
    cell = echo.submit(f"x = {line}" if how == "awaited" else nested(line))
    echo.listen(0.25)
    echo.interrupt()
    echo.wait(cell)
    assert cell.status == "error"
    assert "Stopped waiting for message" in (cell.error_value or "")
    assert "%agentq show" in (cell.error_value or "")
    assert len(cell.traceback.splitlines()) == 1
    message = (cell.error_value or "").split("message ")[1].split(",")[0]
    assert echo.run("x = %agentq ask echo/main words after\nx.response").check().text == "'AFTER'"
    assert echo.value("handled.count(" + repr(word) + ")") == 1
    assert "completed" in echo.run(f"%agentq show {message}").check().text


def test_failed_work_fails_the_cell_in_one_line_unless_it_is_not_checked(echo: Kernel) -> None:
    cell = echo.run("%agentq ask echo/main words fail")
    assert (cell.status, cell.error_name) == ("error", "MessageFailed")
    assert "as it was told" in (cell.error_value or "")
    assert len(cell.traceback.splitlines()) == 1
    assert echo.run("x = %agentq ask --no-check echo/main words fail\nx.status").check().text == "'failed'"


def test_a_wait_with_a_timeout_ends_and_the_work_goes_on(echo: Kernel) -> None:
    cell = echo.run("%agentq ask --timeout 0.05 echo/main words slow late")
    assert cell.error_name == "WaitTimedOut"
    result = echo.run("x = %agentq ask --timeout 0.05 --no-check echo/main words slow later\nx.status").check()
    assert result.text == "'timed_out'"
    assert echo.run("x = %agentq ask echo/main words last\nx.response").check().text == "'LAST'"
    assert echo.value("handled[-3:]") == ["slow late", "slow later", "last"]


def test_background_work_goes_on_after_a_nested_wait_and_its_interrupt(echo: Kernel) -> None:
    echo.run(
        "ticks = []\n"
        "async def tick():\n"
        "    while True:\n"
        "        await asyncio.sleep(0.01)\n"
        "        ticks.append(1)\n"
        "ticking = asyncio.create_task(tick())"
    ).check()
    cell = echo.submit(nested("%agentq ask echo/main words slow ticking"))
    echo.listen(0.25)
    echo.interrupt()
    echo.wait(cell)
    assert cell.status == "error"
    before = echo.value("len(ticks)")
    echo.run("await asyncio.sleep(0.1)").check()
    assert echo.value("len(ticks)") > before
    assert echo.value("ticking.done()") is False
    echo.run("ticking.cancel()").check()


def test_old_nest_asyncio_is_refused_where_await_cannot_stand(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(ECHO).check()
    kernel.run("%agentq start").check()
    kernel.run("import asyncio\nasyncio._nest_patched = True  # the mark that nest_asyncio leaves").check()
    cell = kernel.run("%%time\n%agentq ask echo/main words hello")
    assert "nest_asyncio is loaded in this kernel" in cell.stderr
    assert kernel.run("x = %agentq ask echo/main words hello\nx.response").check().text == "'HELLO'"
    assert "the old one patched this kernel" in kernel.run("%agentq doctor").check().text


def test_the_magic_works_in_other_threads(echo: Kernel) -> None:
    cell = (
        "shell = get_ipython()\n"
        "x = await asyncio.to_thread(shell.run_line_magic, 'agentq', 'ask echo/main words thread')\n"
        "x.response"
    )
    assert echo.run(cell).check().text == "'THREAD'"


@IN_BOTH_PLACES
def test_starting_and_stopping_in_nested_cells(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(ECHO).check()
    for _ in range(3):
        kernel.run("%%time\n%agentq start").check()
        assert kernel.run("x = %agentq ask echo/main words hello\nx.response").check().text == "'HELLO'"
        assert kernel.run("%%time\nx = %agentq ask echo/main words hello\nx.response").check().text == "'HELLO'"
        kernel.run("%%capture\n%agentq stop").check()
    assert kernel.run("%agentq start").check()
    assert kernel.run("x = %agentq ask echo/main words hello\nx.response").check().text == "'HELLO'"


def test_a_message_in_work_can_be_cancelled(echo: Kernel) -> None:
    echo.run("slow = %agentq send echo/main words slow cancelled").check()
    cancelled = "get_ipython().run_line_magic('agentq', 'cancel ' + slow.id)\nawait slow.status()"
    assert echo.run(cancelled).check().text == "'cancelled'"
    assert echo.run(cancelled).check().text == "'cancelled'"
    assert echo.run("x = %agentq ask echo/main words next\nx.response").check().text == "'NEXT'"
    assert echo.value("'slow cancelled' in handled") is False


def test_a_query_may_end_in_a_semicolon(echo: Kernel) -> None:
    assert "42" in echo.run("%agentq sql select 42 as answer;").check().text


def test_a_class_that_the_same_cell_defines_can_be_asked(echo: Kernel) -> None:
    cell = echo.run("class Late(Echo):\n    pass\nx = %agentq ask late/main words hello\nx.response")
    assert cell.check().text == "'HELLO'"


def test_an_interrupt_ends_a_long_query(echo: Kernel) -> None:
    cell = echo.submit(
        "%agentq sql select count(*) from range(1000000) a, range(1000000) b where a.range = b.range + 1 or true"
    )
    echo.listen(0.5)
    echo.interrupt()
    assert echo.wait(cell).status == "error"
    assert "5" in echo.run("%agentq sql select 5 as five").check().text


BUSY_TURN = """
import asyncio

def wait():
    replies.append(get_ipython().run_line_magic("agentq", "ask echo/main words busy").response)

replies = []
loop = asyncio.get_running_loop()
loop.call_soon(wait)
for _ in range(100):
    loop.call_soon(int)
await asyncio.sleep(0.1)
"""


def test_the_first_nested_wait_of_a_kernel_survives_a_turn_of_the_loop_with_much_to_do(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run(ECHO).check()
        kernel.run("%agentq start").check()
        kernel.run(BUSY_TURN).check()
        kernel.run("await asyncio.sleep(1)").check()
        assert kernel.value("replies") == ["BUSY"]
