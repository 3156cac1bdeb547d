"""The rows of a table in JupyterLab and in Notebook 7: killed in the middle and run again, with a progress bar."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.driving import Lab

WORK = """
%load_ext agentq_nb
import os, time
from pathlib import Path
import pandas as pd
import agentq_nb

Path("process").write_text(str(os.getpid()))

def work(row):
    with open("ledger", "a") as ledger:  # before anything else
        print(row["number"], file=ledger)
    if row["number"] >= 15 and not Path("killed").exists():
        time.sleep(600)
    return {"double": 2 * row["number"]}
"""

JOB = """
table = pd.DataFrame({"number": [*range(29), 28], "gap": [None, 1.5] * 15}, index=range(100, 130))
batch = await agentq_nb.map(work, table, name="thirty", concurrency=3)
batch
"""

FRAME = "done = await batch.frame()\ndone"

SHOWN = """
assert list(done.index) == list(table.index)
assert done["number"].tolist() == table["number"].tolist()
print((done["double"] == 2 * done["number"]).all(), *done["status"].unique(), batch.progress())
"""


def started(folder: Path) -> list[int]:
    """The rows that were handed to the function, as it noted them itself."""
    ledger = folder / "ledger"
    return [int(line) for line in ledger.read_text().split()] if ledger.exists() else []


@pytest.mark.parametrize("application", ["lab", "notebook7"])
def test_a_table_is_continued_after_its_kernel_was_killed_and_no_row_is_done_twice(
    request: pytest.FixtureRequest, application: str
) -> None:
    window: Lab = request.getfixturevalue(application)
    folder = window.server.root / f"rows-{application}"
    window.open_cells(folder / "rows.ipynb", [WORK, JOB, FRAME, SHOWN])
    window.start_all()
    window.until(lambda: {15, 16, 17} <= set(started(folder)), otherwise="rows 15 to 17 never started")
    bar = window.notebook.locator(".widget-hprogress .progress-bar").first
    expect(bar).to_be_visible()
    window.wait_for_text("15 of 30 done")
    window.screenshot(f"rows-{application}-killed")
    (folder / "killed").touch()
    window.kill_kernel(int((folder / "process").read_text()))
    before = started(folder)

    cells = window.run_all()
    window.wait_for_text("30 of 30 done")
    window.screenshot(f"rows-{application}-done")
    assert cells[-1].text.strip() == "True completed 30 of 30 done"
    assert sorted(before) == list(range(18))
    assert sorted(started(folder)) == sorted([*range(29), 28, 15, 16, 17])
