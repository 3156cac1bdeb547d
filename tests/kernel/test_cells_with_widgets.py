"""Cells that wait while widgets talk to the kernel: each cell ends, with its own output, and no widget is unheard."""

from __future__ import annotations

import time

import pytest

from tests.kernel.driving import CellResult, Kernel

WIDGET = """
import asyncio
from comm import create_comm

heard = []
widget = create_comm(target_name="jupyter.widget")
widget.on_msg(lambda message: heard.append(message["content"]["data"]["number"]))
widget.comm_id
"""
CELLS, MESSAGES_A_CELL = 120, 3


def say(kernel: Kernel, widget: str, number: int) -> None:
    """What the page's side of a widget sends."""
    assert kernel._client is not None
    message = kernel._client.session.msg("comm_msg", {"comm_id": widget, "data": {"number": number}})
    kernel._client.shell_channel.send(message)


def wait_while_a_widget_talks(kernel: Kernel) -> list[CellResult]:
    """Cells that wait a little, queued and run while messages of a widget arrive without a pause."""
    widget = str(kernel.value("widget.comm_id"))
    cells: list[CellResult] = []
    for number in range(CELLS):
        cells.append(kernel.submit(f"await asyncio.sleep(0.003)\nprint('cell', {number})\n{number}"))
        for message in range(MESSAGES_A_CELL):
            say(kernel, widget, number * MESSAGES_A_CELL + message)
            time.sleep(0.0007)
    for cell in cells:
        kernel.wait(cell, timeout=30)
    return cells


@pytest.mark.parametrize("loading", ["%load_ext agentq_nb", "%reload_ext agentq_nb\n%reload_ext agentq_nb"])
def test_a_cell_that_waits_ends_with_its_own_output_however_often_widgets_talk_meanwhile(
    kernel: Kernel, loading: str
) -> None:
    kernel.run(loading).check()
    kernel.run(WIDGET).check()
    for number, cell in enumerate(wait_while_a_widget_talks(kernel)):
        assert (cell.check().stdout, cell.text) == (f"cell {number}\n", str(number))
    assert kernel.value("sorted(heard)") == list(range(CELLS * MESSAGES_A_CELL))


def test_what_a_thread_prints_after_a_widget_talked_belongs_to_the_cell_that_ran_last(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(WIDGET).check()
    wait_while_a_widget_talks(kernel)
    last = kernel.run(
        "import threading, time\ndef later():\n    time.sleep(0.3)\n    print('late')\nthreading.Thread(target=later).start()"
    ).check()
    kernel.listen(1)
    assert last.stdout == "late\n"


def test_unloading_gives_the_kernel_back_as_it_was(kernel: Kernel) -> None:
    kernel.run("before = {**get_ipython().kernel.__dict__}").check()
    kernel.run("%load_ext agentq_nb").check()
    kernel.run("%unload_ext agentq_nb").check()
    changed = "[name for name in ('dispatch_shell', 'set_parent') if name in get_ipython().kernel.__dict__]"
    assert kernel.value(changed) == []
