"""The driver itself: what other kernel tests rely on."""

from __future__ import annotations

import pytest

from tests.kernel.driving import Kernel, KernelDied


def test_a_cell_gives_its_output_result_and_display(kernel: Kernel) -> None:
    cell = kernel.run("import sys; print('out'); print('err', file=sys.stderr); display('shown'); 6 * 7")
    assert (cell.status, cell.stdout, cell.stderr, cell.text) == ("ok", "out\n", "err\n", "42")
    assert cell.displays[0]["text/plain"] == "'shown'"


def test_an_error_is_told_and_aborts_the_cells_queued_behind_it(kernel: Kernel) -> None:
    good, bad, after = kernel.run_all(["1", "1 / 0", "2"])
    assert (good.status, bad.status, after.status) == ("ok", "error", "aborted")
    assert bad.error_name == "ZeroDivisionError"
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        bad.check()


def test_an_interrupt_ends_a_blocking_cell(kernel: Kernel) -> None:
    cell = kernel.submit("print('begun', flush=True)\nimport time\ntime.sleep(60)")
    while "begun" not in cell.stdout:
        kernel.listen(0.1)
    kernel.interrupt()
    assert kernel.wait(cell).error_name == "KeyboardInterrupt"


def test_a_killed_kernel_is_noticed_and_restarts_in_the_same_folder(kernel: Kernel) -> None:
    kernel.run("open('mark', 'w').close(); kept = 1").check()
    first = kernel.pid
    with pytest.raises(KernelDied):
        kernel.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    kernel.restart()
    assert kernel.pid != first
    assert kernel.value("[__import__('os').path.exists('mark'), 'kept' in globals()]") == [True, False]


def test_output_of_a_background_task_is_added_to_the_cell_that_made_it(kernel: Kernel) -> None:
    cell = kernel.run(
        "import asyncio\nasync def later():\n    await asyncio.sleep(0.2)\n    print('late')\ntask = asyncio.create_task(later())"
    )
    assert cell.silent
    kernel.run("await task").check()
    assert cell.stdout == "late\n"
