"""The harness itself: what it waits for, what it reports, and what it collects."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.driving import NARROW, SCREENSHOTS, Lab


def test_cells_run_in_a_real_kernel_of_this_checkout(lab: Lab, folder: Path) -> None:
    lab.open_cells(folder / "plain.ipynb", ["import agentq_nb\nprint(agentq_nb.__file__)", "6 * 7"])
    first, second = lab.run_all()
    assert Path(first.text.strip()) == Path(__file__).parents[2] / "agentq_nb" / "__init__.py"
    assert second.text == "42"
    assert lab.run("print('added')").text == "added\n"
    assert lab.value("6 * 7") == "42"
    lab.wait_for_text("added")
    lab.set_theme("dark")
    lab.set_width(NARROW)
    lab.screenshot("harness")
    assert (SCREENSHOTS / "harness.png").stat().st_size > 1000


def test_a_failed_cell_is_reported_with_its_text(lab: Lab, folder: Path) -> None:
    lab.open_cells(folder / "failing.ipynb", ["1", "raise ValueError('told')", "3"])
    with pytest.raises(AssertionError, match=r"(?s)cell 1 failed.*told"):
        lab.run_all()


def test_the_kernel_can_be_interrupted_restarted_and_killed_and_the_page_reloaded(lab: Lab, folder: Path) -> None:
    lab.open_cells(folder / "life.ipynb", ["kept = 1"])
    lab.run_all()
    lab.start("import time\nprint('begun', flush=True)\ntime.sleep(600)")
    lab.until(lambda: "begun" in lab.cells[-1].text)
    lab.interrupt()
    lab.wait_until_done()
    assert lab.cells[-1].failed
    lab.save()
    lab.reload()
    assert lab.value("kept") == "1"
    before = lab.value("__import__('os').getpid()")
    lab.restart_kernel()
    assert lab.value("'kept' in globals()") == "False"
    lab.kill_kernel()
    assert lab.value("__import__('os').getpid()") != before
    assert lab.run("1 + 1").text == "2"


def test_a_saved_notebook_opens_without_a_kernel(lab: Lab, folder: Path) -> None:
    notebook = folder / "saved.ipynb"
    lab.open_cells(notebook, ["print('said before')"])
    lab.run_all()
    lab.save()
    lab.server.shut_down_kernels()
    lab.open(notebook, kernel=False)
    lab.wait_for_text("said before")
    assert lab.server.request("GET", "/api/kernels") == []


def test_what_a_page_does_wrong_is_collected(lab: Lab, folder: Path) -> None:
    lab.open_cells(folder / "wrong.ipynb", ["1"])
    lab.page.evaluate(
        """() => { console.error('first'); setTimeout(() => { throw new Error('second') });
                   alert('third'); fetch('http://example.org/fourth').catch(() => null); }"""
    )
    lab.until(lambda: len(lab.complaints) >= 4)
    told = "\n".join(lab.complaints)
    for kind in ("console: first", "uncaught: .*second", "dialog: third", r"request: http://example.org/fourth"):
        assert re.search(kind, told)
    lab.complaints.clear()
