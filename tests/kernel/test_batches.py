"""Batches in a real notebook: three lines, a live view with failures and a button, a killed kernel, an interrupted wait."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.kernel.driving import Kernel

BEGIN = """
import agentq_nb as aq, pandas as pd
%load_ext agentq_nb
reviews = pd.DataFrame({"n": range(30)}, index=[f"r{n}" for n in range(30)])
"""
WORK = """
def work(row):
    with open("ledger", "a") as ledger:
        print(row["n"], file=ledger)
    if row["n"] == 20 and HELD:
        import time
        time.sleep(600)
    return {"double": 2 * row["n"]}
"""


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def ledger(kernel: Kernel) -> list[str]:
    path = kernel.cwd / "ledger"
    return path.read_text().split() if path.exists() else []


def test_a_map_in_a_notebook_goes_on_after_the_kernel_was_killed(kernel: Kernel) -> None:
    kernel.run(BEGIN + "HELD = True").check()
    kernel.run(WORK).check()
    shown = kernel.run('batch = await aq.map(work, reviews, name="reviews-v1", concurrency=3)\nbatch').check()
    assert "Batch 'reviews-v1'" in shown.text
    assert "application/vnd.jupyter.widget-view+json" in shown.displays[-1]
    until(lambda: kernel.value("batch.progress().done") == 29)
    before = ledger(kernel)
    kernel.kill()
    kernel.restart()
    kernel.run(BEGIN + "HELD = False").check()
    kernel.run(WORK).check()
    kernel.run(
        'batch = await aq.map(work, reviews, name="reviews-v1", concurrency=2)\ntable = await batch.frame()'
    ).check()
    assert kernel.value("table.double.tolist()") == [2 * n for n in range(30)]
    assert kernel.value("table.index.equals(reviews.index)") is True
    assert ledger(kernel)[len(before) :] == ["20"]
    assert "reviews-v1" in kernel.run("%agentq batches").check().text
    assert "30 of 30 done" in kernel.run("%agentq batches reviews-v1").check().text


def test_failures_are_named_in_the_live_view_and_its_button_retries_them(kernel: Kernel) -> None:
    kernel.run(BEGIN).check()
    kernel.run(
        "broken = True\n"
        "def work(row):\n"
        "    if row['n'] == 3 and broken: raise ValueError('three is odd')\n"
        "    return row['n']"
    ).check()
    kernel.run('batch = await aq.map(work, reviews, name="odd", retry=aq.Retry(attempts=1))\nbatch').check()
    until(lambda: kernel.value("batch.progress().settled") == 30)
    kernel.run("import asyncio; await asyncio.sleep(1.2)").check()
    shown = kernel.run("batch").check()
    assert "29 of 30 done, 1 failed" in shown.text
    kernel.run("import gc; from agentq_nb._notebook.batch_view import BatchView").check()
    kernel.run("import asyncio; await asyncio.sleep(1.2)").check()
    views = "[view for view in gc.get_objects() if isinstance(view, BatchView) and not view._settled]"
    assert kernel.value(f"'ValueError: three is odd' in {views}[-1].text.value") is True
    kernel.run(f"broken = False\n{views}[-1].retry.click()").check()
    until(lambda: kernel.value("batch.progress().done") == 30)
    kernel.run("await asyncio.sleep(1.2)").check()
    assert kernel.value(f"len({views})") == 0


def test_an_interrupted_wait_says_that_the_work_goes_on_and_how_to_end_it(kernel: Kernel) -> None:
    kernel.run(BEGIN).check()
    kernel.run("import asyncio\nasync def work(row): await asyncio.sleep(600)").check()
    kernel.run('batch = await aq.map(work, reviews, name="slow")').check()
    cell = kernel.submit("await batch.results()")
    time.sleep(1)
    kernel.interrupt()
    kernel.wait(cell, timeout=30)
    assert "Stopped waiting; batch 'slow' continues: 0 of 30 done, 1 running, 29 waiting" in cell.traceback
    assert "await batch.cancel()" in cell.traceback
    assert kernel.value("await batch.cancel()") == 30


def test_an_executed_notebook_shows_how_each_batch_ended(tmp_path: Path) -> None:
    work = """
async def {name}(row):
    await gate.wait()
    if row["n"] in {failing}:
        raise ValueError("odd")
gate = asyncio.Event()
{name} = await aq.map({name}, reviews, name="{name}", concurrency=10, retry=aq.Retry(attempts=1))
{name}"""
    codes = [
        BEGIN + "import asyncio, agentq_nb._notebook.batch_view as live",
        work.format(name="between", failing=()),
        "gate.set()",
        "await asyncio.sleep(2)",
        "await between.results()",
        "live._EVERY = 600",
        work.format(name="done", failing=()),
        "gate.set(); table = await done.frame()",
        work.format(name="failing", failing=(3, 29)),
        "gate.set()\nasync for result in failing: pass",
        work.format(name="endless", failing=()),
        "%agentq stop",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {
        name: next(output.data for output in notebook.cells[cell].outputs if "data" in output)
        for name, cell in (("between", 1), ("done", 6), ("failing", 8), ("endless", 10))
    }
    assert "30 of 30 done" in shown["between"]["text/plain"]
    assert "30 of 30 done" in shown["done"]["text/plain"]
    assert "30 of 30 done" in shown["done"]["text/html"]
    assert "28 of 30 done, 2 failed" in shown["failing"]["text/plain"]
    assert shown["failing"]["text/plain"].count("ValueError: odd") == 2
    widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert any("28 of 30 done, 2 failed" in str(widget["state"].get("value")) for widget in widgets.values())
    assert "0 of 30 done" in shown["endless"]["text/plain"]
    assert "in the background" not in shown["endless"]["text/plain"] + shown["endless"]["text/html"]
    assert "%agentq batches endless" in shown["endless"]["text/plain"]


def test_an_executed_notebook_shows_batches_that_no_cell_waits_for_as_they_are_at_its_last_cell(tmp_path: Path) -> None:
    codes = [
        BEGIN + "import asyncio",
        "gate = asyncio.Event()\nasync def work(row):\n    if row['n'] >= 25: await gate.wait()\n%agentq dashboard",
        'batch = await aq.map(work, reviews, name="unwaited", concurrency=10)\nbatch',
        'other = await aq.map(work, reviews[:10], name="other", concurrency=2)\nother',
        "while batch.progress().done < 25 or not other.progress().finished: await asyncio.sleep(0.05)",
        "1 + 1",
    ]
    codes.insert(1, "%agentq start")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()

    def text(cell: int) -> str:
        return str(next(output.data for output in notebook.cells[cell].outputs if "data" in output)["text/plain"])

    assert "25 of 30 done" in text(3)
    assert re.search(r"This was its state at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC.*%agentq batches unwaited", text(3))
    assert "10 of 10 done" in text(4)
    assert "This was its state" not in text(4)
    assert re.search(r"as of +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", text(2))
