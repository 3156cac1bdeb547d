"""The notebooks in real kernels, with their queues on PostgreSQL: only the variable AGENTQ_DB differs.

Cells with queries are left out: those are in DuckDB's SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.driving import PROJECT, Kernel
from tests.kernel.notebook_cells import code_of
from tests.postgres_queues import new_schema

_QUERY = re.compile(r"^(%%|.*%)agentq sql|registry\.sql\(", re.MULTILINE)


@pytest.fixture
def kernel(tmp_path: Path, postgres_url: str) -> Iterator[Kernel]:
    address = f"{postgres_url}?schema={new_schema()}"
    project = tmp_path / "project"
    project.mkdir()
    (project / "good.py").write_text('"""Good."""\n\nANSWER = 42\n')
    (project / "bad.py").write_text("def f(items=[]):\n    return items == None\n")
    with Kernel(tmp_path, {"AGENTQ_DB": address, "AGENTQ_DEMO_FOLDER": str(project)}) as started:
        yield started


def run_notebook(kernel: Kernel, name: str) -> str:
    """Run its cells but for queries; everything they printed and showed."""
    shown: list[str] = []
    for code in code_of(PROJECT / "notebooks" / name):
        if not _QUERY.search(code):
            cell = kernel.run(code, timeout=180).check()
            shown += [cell.stdout, *(str(result["text/plain"]) for result in cell.results + cell.displays)]
    return "\n".join(shown)


def statuses(kernel: Kernel) -> dict[str, int]:
    """How many messages of the server's have each status."""
    kernel.run("from agentq_nb import current_registry").check()
    found: dict[str, int] = kernel.value("(await current_registry().messages())['status'].value_counts().to_dict()")
    return found


def test_the_first_notebook_reviews_every_file_once_also_after_a_restart(kernel: Kernel) -> None:
    assert "2 of 2 reviewed" in run_notebook(kernel, "01_first_queue.ipynb")
    assert statuses(kernel) == {"completed": 2}
    kernel.restart()
    assert "2 of 2 reviewed" in run_notebook(kernel, "01_first_queue.ipynb")
    assert statuses(kernel) == {"completed": 2}


def test_the_second_notebook_shows_an_answer_a_timeout_and_a_dead_letter_that_is_delivered_again(
    kernel: Kernel,
) -> None:
    shown = run_notebook(kernel, "02_request_response.ipynb")
    assert "Review: 2 problems: default value is shared by all calls" in shown
    assert "'timed_out'" in shown
    assert "later: 2 problems: default value is shared by all calls" in shown
    assert "Nothing to remark." in shown


def test_the_third_notebook_handles_every_row_also_after_a_restart(kernel: Kernel) -> None:
    run_notebook(kernel, "03_many_rows.ipynb")
    before = statuses(kernel)
    kernel.restart()
    run_notebook(kernel, "03_many_rows.ipynb")
    assert statuses(kernel) == before


def test_the_fourth_notebook_works_in_vms_and_again_after_a_restart(kernel: Kernel) -> None:
    shown = run_notebook(kernel, "04_real_agents.ipynb")
    kernel.restart()
    shown += run_notebook(kernel, "04_real_agents.ipynb")
    for text in (
        "Review: 2 problems: default value is shared by all calls",
        "It asks: Edit src/auth.py",
        "def login(user, password, tried=()):",
        "agentq/branching/try: 1 file",
        "Nothing has changed in the work tree.",
    ):
        assert shown.count(text) >= 2, text
    assert set(statuses(kernel)) == {"completed"}


def test_the_fifth_notebook_shows_failures_tokens_and_a_transcript(kernel: Kernel) -> None:
    shown = run_notebook(kernel, "05_looking_at_the_work.ipynb")
    for words in ("No such file or directory: 'missing.py'", "input_tokens", "thorough", "Tool call", "end_turn"):
        assert words in shown, words
    assert statuses(kernel)["failed"] == 4
    assert kernel.value("int(messages['attempts'].max())") == 3


def test_the_sixth_notebook_sends_itself_signed_issues_also_after_a_restart(kernel: Kernel) -> None:
    shown = [run_notebook(kernel, "06_webhooks.ipynb")]
    kernel.restart()
    shown.append(run_notebook(kernel, "06_webhooks.ipynb"))
    for text in shown:
        first, again = re.findall(r"\(202, {'message_id': '(\w+)', 'repeated': (?:False|True)}\)", text)
        assert first == again
        assert "(401," in text
        assert "{'bug': 14, 'question': 6}" in text
    assert set(statuses(kernel)) == {"completed"}
