"""A table of thirty rows, killed in the middle and run again, as a script and in notebooks that a program executes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest

from tests.kernel.driving import PROJECT

WORK = """
import os, signal, time
import pandas as pd
import agentq_nb

def work(row):
    with open("ledger", "a") as ledger:  # before anything else
        print(row["number"], file=ledger)
    if os.environ["KILLED"] == "yes" and row["number"] >= 15:
        time.sleep(0.5 if row["number"] == 15 else 60)  # what had completed before is durable by now
        os.kill(os.getpid(), signal.SIGKILL)
    return {"double": 2 * row["number"]}
"""

JOB = """
table = pd.DataFrame({"number": [*range(29), 28], "gap": [None, 1.5] * 15}, index=range(100, 130))
batch = await agentq_nb.map(work, table, name="thirty", concurrency=3)
await batch
done = await batch.frame()
"""

SHOWN = """
assert list(done.index) == list(table.index)
assert done["number"].tolist() == table["number"].tolist()
print("DONE", (done["double"] == 2 * done["number"]).all(), *done["status"].unique(), batch.progress())
"""


def run(folder: Path, words: Sequence[str], *, killed: bool) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "KILLED": "yes" if killed else "no",
        "PYTHONPATH": str(PROJECT),
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / ".ipython"),
    }
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=150)


def as_script() -> str:
    """The job as one would write it in a file of its own."""
    job = "".join(f"    {line}\n" for line in (JOB + SHOWN).splitlines())
    return f"import asyncio\n{WORK}\nasync def main():\n{job}\nasyncio.run(main())\n"


def write_notebook(path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(code) for code in (WORK, JOB, SHOWN)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


def begun(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "ledger").read_text().split()]


def check_ledger(folder: Path, before: Sequence[int]) -> None:
    """Every row was begun once, and once more only what was at work when it was killed."""
    at_work = [number for number in before if number >= 15]
    assert 15 in at_work
    assert len(at_work) <= 3
    assert sorted(begun(folder)) == sorted([*range(29), 28, *at_work])


def outputs_of(path: Path) -> str:
    """What the cells of an executed notebook printed."""
    cells = json.loads(path.read_text())["cells"]
    return "".join("".join(output.get("text", "")) for cell in cells for output in cell["outputs"])


@pytest.mark.parametrize("words", [["job.py"], ["-c", as_script()]], ids=["script", "python -c"])
def test_a_killed_program_goes_on_when_it_is_run_again(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "job.py").write_text(as_script())
    killed = run(tmp_path, words, killed=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = begun(tmp_path)
    again = run(tmp_path, words, killed=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == "DONE True completed 30 of 30 done"
    check_ledger(tmp_path, before)
    assert [path.name for path in tmp_path.glob("*.duckdb")] == ["agentq.duckdb"]


NBCONVERT = ["nbconvert", "--to", "notebook", "--execute", "--output", "out.ipynb", "rows.ipynb"]


@pytest.mark.parametrize(
    ("words", "stem"),
    [(NBCONVERT, "rows"), (["papermill", "rows.ipynb", "out.ipynb"], "out")],
    ids=["nbconvert", "papermill"],
)
def test_a_notebook_that_a_program_executes_goes_on_after_its_kernel_was_killed(
    tmp_path: Path, words: list[str], stem: str
) -> None:
    write_notebook(tmp_path / "rows.ipynb")
    killed = run(tmp_path, ["-m", *words], killed=True)
    assert "DeadKernelError" in killed.stderr
    before = begun(tmp_path)
    again = run(tmp_path, ["-m", *words], killed=False)
    assert again.returncode == 0, again.stderr
    assert "DONE True completed 30 of 30 done" in outputs_of(tmp_path / "out.ipynb")
    check_ledger(tmp_path, before)
    assert [path.name for path in tmp_path.glob("*.duckdb")] == [f"{stem}.agentq.duckdb"]
