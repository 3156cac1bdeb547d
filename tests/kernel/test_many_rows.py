"""The notebook about many rows: failures, a killed script, a killed kernel, and a limit that is kept all the while."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.kernel.driving import PROJECT, Kernel
from tests.kernel.notebook_cells import code_of, run_all

THIRD = PROJECT / "notebooks/03_many_rows.ipynb"
BATCHES = "(await registry.sql('select actor_id, count(*), max(attempts) from messages group by all order by 1')).rows"


def test_the_third_notebook_shows_failures_a_killed_script_and_a_kept_limit_also_after_a_restart(
    tmp_path: Path,
) -> None:
    with Kernel(tmp_path) as kernel:
        for turn in range(3):
            cells = [kernel.run(code, timeout=120).check() for code in code_of(THIRD)]
            shown = [result for cell in cells for result in cell.results + cell.displays]
            assert sum("image/png" in result for result in shown) == 2
            text = "\n".join(str(result["text/plain"]) for result in shown)
            assert ("StatisticsError: no median for empty data" in text) is (turn == 0)
            assert "completed    300" in text
            assert "300 of 300 done" in "".join(cell.stdout for cell in cells)
            assert kernel.value("night.returncode") == -signal.SIGKILL
            assert kernel.value("len(times_begun)") == 300
            # With two rows at a time: two at work, and as many whose replies were not on disk yet, or a few more.
            assert kernel.value("int((times_begun == 2).sum())") < 10
            assert kernel.value("int(times_begun.max())") <= 2
            assert kernel.value("int(max(in_a_second))") <= 60
            assert kernel.value(BATCHES) == [["map_measure", 300, 1], ["shrinker/main", 300, 1]]
            if turn == 1:
                kernel.restart()


@pytest.mark.parametrize(("sending", "actor"), [("agentq_nb.map(", "map_measure"), ("send_many(", "shrinker/main")])
def test_the_third_notebook_goes_on_after_its_kernel_was_killed_at_work(
    tmp_path: Path, sending: str, actor: str
) -> None:
    cells = code_of(THIRD)
    killed_at = next(index for index, code in enumerate(cells) if sending in code)
    with Kernel(tmp_path) as kernel:
        for code in cells[: killed_at + 1]:
            kernel.run(code, timeout=120).check()
        kernel.run("async for result in batch:\n    if result.row >= 20: break").check()
        done = kernel.value("batch.progress().settled")
        kernel.kill()
        assert 20 <= done < 300
        kernel.restart()
        run_all(kernel, THIRD)
        found = kernel.value(BATCHES)
        assert [row[:2] for row in found] == [["map_measure", 300], ["shrinker/main", 300]]
        attempts = kernel.value(
            f"(await registry.sql(\"select attempts from messages where actor_id = '{actor}'\")).rows"
        )
        repeated = [row for row in attempts if row != [1]]
        assert len(repeated) <= 10
        assert all(row == [2] for row in repeated)
        assert kernel.value("int(max(in_a_second))") <= 60
