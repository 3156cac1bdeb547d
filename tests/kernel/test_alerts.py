"""Failures announce themselves under the next cell that a person runs, in one line, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.kernel.conftest import IN_BOTH_PLACES
from tests.kernel.driving import Kernel

ACTOR = """
%load_ext agentq_nb
import asyncio
from agentq_nb import Actor, Queue, Retry, create_client
class Runner(Actor):
    rows = Queue(int, retry=Retry(attempts=1))
    async def run(self):
        async for message in self.queue.iter(completable=True):
            if message.body < 0:
                self.log.warning("odd row")
                await message.complete()
            else:
                await message.fail(ValueError(f"no such row {message.body}"))
%agentq start
runner = create_client().runner.get_or_create(["main"])
"""

THIRTY_ROWS = "for number in range(30):\n    await runner.send('rows', number, wait=True)"

TOLD = "30 messages of runner, queue 'rows', failed: ValueError: no such row 29."


@IN_BOTH_PLACES
def test_one_line_after_a_cell_names_what_failed_since_the_last_one(kernel: Kernel) -> None:
    kernel.has_reader = True
    assert kernel.run(ACTOR).check().stderr == ""
    cell = kernel.run(THIRTY_ROWS).check()
    assert TOLD in cell.stderr
    assert cell.stderr.count("\n") == 1
    assert cell.stderr.endswith(". More: %agentq status, %agentq dead\n")
    assert kernel.run("1 + 1").check().stderr == ""
    assert "1 message of runner" in kernel.run("await runner.send('rows', 7, wait=True)").check().stderr
    warned = kernel.run("await runner.send('rows', -1, wait=True)").check().stderr
    assert "odd row" in warned
    assert warned.endswith(". More: %agentq status\n")
    kernel.run("%agentq alerts off").check()
    assert kernel.run("await runner.send('rows', 8, wait=True)").check().stderr == ""
    assert kernel.run("%agentq alerts on").check().stderr == ""
    assert "no such row 9" in kernel.run("await runner.send('rows', 9, wait=True)").check().stderr


def test_a_notebook_that_nobody_reads_shows_nothing(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code) for code in (ACTOR, THIRTY_ROWS, "1 + 1")]
    )
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    assert [output["name"] for output in outputs if output["output_type"] == "stream"] == []
