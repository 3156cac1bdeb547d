"""Which file a notebook's host opens, what happens when it is held or damaged, and the shell command on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.conftest import IN_BOTH_PLACES
from tests.kernel.driving import PROJECT, Kernel

CELL = """
import asyncio
from agentq_nb import Actor, Queue

class Worker(Actor):
    tasks = Queue(int, reply=int)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            if message.body < 0:
                raise ValueError(f"{message.body} is less than nothing")
            if message.body > 100:
                await asyncio.sleep(60)
            await message.complete(message.body * 2)
"""


def agentq(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    environment.pop("AGENTQ_DB", None)
    command = [sys.executable, "-m", "agentq_nb.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


def started(kernel: Kernel, start: str = "%agentq start") -> None:
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(CELL).check()
    kernel.run(start).check()


def test_the_file_lies_beside_the_notebook(tmp_path: Path) -> None:
    notebook = tmp_path / "sub" / "my analysis.ipynb"
    notebook.parent.mkdir()
    with Kernel(tmp_path, {"JPY_SESSION_NAME": str(notebook)}) as kernel:
        started(kernel)
        assert (notebook.parent / "my analysis.agentq.duckdb").exists()
        assert "path is not known" not in kernel.run("%agentq status").check().text


def test_vs_code_says_its_notebook_in_the_namespace(kernel: Kernel) -> None:
    kernel.run(f"__vsc_ipynb_file__ = {str(kernel.cwd / 'code.ipynb')!r}").check()
    started(kernel)
    assert (kernel.cwd / "code.agentq.duckdb").exists()


def test_a_path_and_a_variable_choose_the_file(tmp_path: Path) -> None:
    with Kernel(tmp_path, {"AGENTQ_DB": str(tmp_path / "variable.duckdb")}) as kernel:
        started(kernel)
        assert (tmp_path / "variable.duckdb").exists()
        refused = kernel.run("%agentq start --store asked.duckdb")
        assert "The host of this kernel runs on" in refused.stderr
        assert "%agentq stop" in refused.stderr
        kernel.run("%agentq stop").check()
        kernel.run("%agentq start --store asked.duckdb").check()
        assert (tmp_path / "asked.duckdb").exists()
        assert kernel.run("%agentq start").check().text.count("asked.duckdb") == 1


def test_a_guessed_place_is_told(kernel: Kernel) -> None:
    started(kernel)
    assert (kernel.cwd / "agentq.duckdb").exists()
    assert "The notebook's own path is not known here" in kernel.run("%agentq start").check().text


@IN_BOTH_PLACES
def test_a_second_kernel_is_told_who_holds_the_file(kernel: Kernel) -> None:
    started(kernel)
    with Kernel(kernel.cwd, background=kernel.background) as second:
        second.run("%load_ext agentq_nb").check()
        cell = second.run("%agentq start")
        assert cell.error_name == "StoreInUse"
        assert f"process {kernel.pid}" in (cell.error_value or "")
        assert len(cell.traceback.splitlines()) == 1
        assert f"process {kernel.pid}" in second.run("%agentq doctor").check().text
    assert kernel.run("x = %agentq ask worker/main tasks 4\nx.response").check().text == "8"


@IN_BOTH_PLACES
def test_a_damaged_file_opens_only_when_the_loss_is_accepted(kernel: Kernel) -> None:
    started(kernel)
    for number in range(5):
        kernel.run(f"%agentq ask worker/main tasks {number}").check()
    kernel.kill()
    (kernel.cwd / "agentq.duckdb.journal").unlink()
    kernel.restart()
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(CELL).check()
    cell = kernel.run("%agentq start")
    assert cell.error_name == "StoreDamaged"
    assert "%agentq doctor --accept-loss" in (cell.error_value or "")
    told = kernel.run("%agentq doctor --accept-loss").check().text
    assert "problem" not in told
    assert kernel.run("x = %agentq ask worker/main tasks 21\nx.response").check().text == "42"


@pytest.fixture
def left_behind(kernel: Kernel) -> Path:
    """The folder of a kernel that was killed with work of every kind in its file."""
    started(kernel)
    kernel.run("%agentq ask worker/main tasks 1").check()
    kernel.run("from agentq_nb import Retry\nWorker.tasks.retry = Retry(attempts=1)").check()
    kernel.run("failed = %agentq ask --no-check worker/main tasks -1").check()
    kernel.run("%agentq send worker/main tasks 200").check()
    kernel.run("%agentq send worker/main tasks 3").check()
    assert kernel.value("failed.status") == "failed"
    kernel.kill()
    return kernel.cwd


def test_the_shell_command_reads_a_file_that_nobody_holds(left_behind: Path) -> None:
    file = ("--store", "agentq.duckdb")
    status = agentq(left_behind, "status", *file)
    assert (status.returncode, status.stderr) == (0, "")
    assert "worker/main" in status.stdout
    results = agentq(left_behind, "results", *file)
    assert "completed" in results.stdout
    dead = agentq(left_behind, "dead", "worker/main", "--last", "3", *file)
    assert "-1 is less than nothing" in dead.stdout
    message = dead.stdout.splitlines()[2].split()[0]
    shown = agentq(left_behind, "show", message, *file)
    assert "Traceback" in shown.stdout
    assert "ValueError" in shown.stdout
    queried = agentq(left_behind, *file, "sql", "select count(*) as messages from messages")
    assert queried.stdout.split() == ["messages", "--------", "4"]


def test_the_shell_command_starts_no_work_and_counts_no_attempt(left_behind: Path) -> None:
    query = "select status, attempts from messages where status not in ('completed', 'failed') order by created_at"
    first = agentq(left_behind, "sql", query, "--store", "agentq.duckdb")
    assert first.returncode == 0
    for _ in range(3):
        assert agentq(left_behind, "sql", query, "--store", "agentq.duckdb").stdout == first.stdout


def test_the_shell_command_exports_prunes_and_examines(left_behind: Path) -> None:
    file = ("--store", "agentq.duckdb")
    assert "copy.duckdb" in agentq(left_behind, "export", "copy.duckdb", *file).stdout
    assert "Dropped" in agentq(left_behind, "prune", "0s", *file).stdout
    examined = agentq(left_behind, "doctor", *file)
    assert examined.returncode == 0
    assert "agentq.duckdb" in examined.stdout
    assert agentq(left_behind, "sql", "drop view messages", *file).returncode == 1


def test_the_shell_command_says_who_holds_the_file(kernel: Kernel) -> None:
    started(kernel)
    for command, status in (("status", 0), ("doctor", 1)):
        ran = agentq(kernel.cwd, command, "--store", "agentq.duckdb")
        assert ran.returncode == status
        assert f"process {kernel.pid}" in ran.stdout + ran.stderr
    assert kernel.run("x = %agentq ask worker/main tasks 4\nx.response").check().text == "8"


@IN_BOTH_PLACES
@pytest.mark.parametrize("end", ["%agentq stop", "pass"], ids=["stopped", "running"])
def test_a_kernel_that_ends_says_nothing_in_its_servers_log(
    tmp_path: Path, background: bool, end: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with Kernel(tmp_path, background=background) as kernel:
        started(kernel)
        kernel.run("x = %agentq ask worker/main tasks 4").check()
        kernel.run("from agentq_nb import current_registry\nregistry = current_registry()").check()
        kernel.run("table = %agentq sql select * from messages").check()
        kernel.run("%agentq sql select * from nothing")
        kernel.run(end).check()
    assert "leaked" not in capfd.readouterr().err
