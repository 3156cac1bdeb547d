"""The notebooks and ``agentq demo``, on real files, in real kernels."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.kernel.driving import PROJECT, Kernel
from tests.kernel.notebook_cells import code_of, run_all
from tests.unit.agent_os.user_repository import git

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
FIRST, SECOND = PROJECT / "notebooks/01_first_queue.ipynb", PROJECT / "notebooks/02_request_response.ipynb"
FOURTH = PROJECT / "notebooks/04_real_agents.ipynb"
FIFTH = PROJECT / "notebooks/05_looking_at_the_work.ipynb"
SIXTH = PROJECT / "notebooks/06_webhooks.ipynb"


def messages(kernel: Kernel) -> dict[str, Any]:
    """How many messages the store has, how many attempts, and in which states they are."""
    return dict(
        kernel.value(
            "(lambda rows: {'messages': len(rows), 'attempts': sum(r[0] for r in rows), "
            "'statuses': sorted({r[1] for r in rows})})"
            "((await registry.sql('select attempts, status from messages')).rows)"
        )
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small project: good and bad Python, a text, an empty, a broken, a binary and a non-UTF-8 file."""
    made = tmp_path / "project"
    (made / "deep").mkdir(parents=True)
    (made / "good.py").write_text('"""Good."""\n\nANSWER = 42\n')
    (made / "deep" / "bad.py").write_text("def f(items=[]):\n    return items == None\n")
    (made / 'it\'s "quoted" & <odd>.py').write_text("a = 1\n")
    (made / "broken.py").write_text("def f(:\n")
    (made / "empty.py").write_text("")
    (made / "binary.c").write_bytes(b"\x00\x01\x02")
    (made / "latin.txt").write_bytes(b"caf\xe9\n")
    return made


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


# --- notebook 01 ---


def test_the_first_notebook_reviews_every_file_once_also_after_a_restart(folder: Path, tmp_path: Path) -> None:
    with Kernel(tmp_path, {"AGENTQ_DEMO_FOLDER": str(folder)}) as kernel:
        shown = run_all(kernel, FIRST)
        assert "7 of 7 reviewed" in shown
        assert re.search(r"deep/bad\.py +completed +2 +2", shown)
        assert "does not parse" in shown
        assert messages(kernel) == {"messages": 7, "attempts": 7, "statuses": ["completed"]}
        kernel.restart()
        (folder / "good.py").write_text("changed = True\n")
        assert "7 of 7 reviewed" in run_all(kernel, FIRST)
        assert messages(kernel) == {"messages": 8, "attempts": 8, "statuses": ["completed"]}


def test_the_first_notebook_goes_on_after_its_kernel_was_killed_at_work(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        (folder / f"file{number}.py").write_text(f"number = {number}\n")
    cells = code_of(FIRST)
    waiting = next(index for index, code in enumerate(cells) if "await receipt.result()" in code)
    with Kernel(tmp_path, {"AGENTQ_DEMO_FOLDER": str(folder)}) as kernel:
        for code in cells[:waiting]:
            kernel.run(code).check()
        kernel.kill()
        kernel.restart()
        assert "60 of 60 reviewed" in run_all(kernel, FIRST)
        found = messages(kernel)
        assert (found["messages"], found["statuses"]) == (60, ["completed"])
        assert 60 <= found["attempts"] <= 61


# --- notebook 02 ---


def test_the_second_notebook_shows_an_answer_a_timeout_and_a_dead_letter_that_is_delivered_again(
    tmp_path: Path,
) -> None:
    with Kernel(tmp_path) as kernel:
        first = run_all(kernel, SECOND)
        again = run_all(kernel, SECOND)
    for shown in (first, again):
        assert "Review: 2 problems: default value is shared by all calls" in shown
        assert "'timed_out'" in shown
        assert "later: 2 problems: default value is shared by all calls" in shown
        assert re.findall(r"^\d +([123]) +(retried|failed) ", shown, re.MULTILINE) == [
            ("3", "failed"),
            ("2", "retried"),
            ("1", "retried"),
        ]
        assert len(re.findall(r"^\d +'/home/user/src/missing\.py' could not be read", shown, re.MULTILINE)) == 3
        assert "Nothing to remark." in shown


# --- notebook 04 ---


def test_the_fourth_notebook_works_offline_and_again_after_a_restart(tmp_path: Path) -> None:
    shown: list[str] = []
    with Kernel(tmp_path) as kernel:
        shown += [run_all(kernel, FOURTH), run_all(kernel, FOURTH)]
        kernel.restart()
        shown.append(run_all(kernel, FOURTH))
        assert messages(kernel) == {"messages": 12, "attempts": 12, "statuses": ["completed"]}
        assert kernel.value("table[['files', 'insertions', 'deletions']].values.tolist()") == [
            [1, 1, 1],
            [1, 2, 1],
            [1, 3, 0],
        ]
    assert git(tmp_path / "shop", "log", "--format=%s", "--all").splitlines()[-1] == "Two modules"
    for text in shown:
        assert "Review: 2 problems: default value is shared by all calls" in text
        assert "The file is empty." in text
        assert "What I found is in review.txt, in 34 words." in text
        assert re.search(r"Isolation: (bubblewrap|landlock|none)", text)
        assert "leaves the workspace" in text
        assert "It asks: Edit src/auth.py" in text
        assert "def login(user, password, tried=()):" in text
        assert "2 incidents, the last one: 2024-09" in text
        assert len(re.findall(r"^  agentq/shop/", text, re.MULTILINE)) == 3
        assert text.count("+    if discount < 0:") == 2
        assert "agentq/branching/try: 1 file" in text
        assert "Discarded: 1 file\n" in text
        assert "Nothing has changed in the work tree." in text


# --- the README ---


def test_the_program_in_the_readme_runs(tmp_path: Path) -> None:
    programs = re.findall(r"^```python\n(.*?)^```$", (PROJECT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    program, mapping, looking = programs
    loading, rest = program.split("\n", 1)
    with Kernel(tmp_path) as kernel:
        kernel.run(loading).check()
        shown = kernel.run(rest).check()
        assert [result["text/plain"] for result in shown.results] == ["'3 words'"]
        kernel.run("result = await (await runner.send('tasks', {'prompt': 'the last'})).result()").check()
        assert kernel.value("result.status") == "completed"
        kernel.run("import agentq_nb\nregistry = agentq_nb.current_registry()").check()
        assert messages(kernel) == {"messages": 3, "attempts": 3, "statuses": ["completed"]}
        kernel.run(
            "texts = await registry.sql(\"select text from transcripts where type = 'text' order by time\")"
        ).check()
        assert kernel.value("[row[0] for row in texts.rows]") == ["3 words", "3 words", "2 words"]
        kernel.run("import pandas\nclassify = lambda review: {'stars': len(review['text'])}").check()
        kernel.run("reviews = pandas.DataFrame({'text': ['good', 'bad']})").check()
        kernel.run(mapping).check()
        assert kernel.value("table['stars'].tolist()") == [4, 3]
        assert kernel.value("table['status'].tolist()") == ["completed"] * 2
        kernel.run(f"from datetime import timedelta\n{looking}").check()
        assert kernel.value("(len(failed), len(results), 'text' in set(transcripts['type']))") == [0, 5, True]


# --- notebook 05 ---


def test_the_fifth_notebook_shows_plots_failures_tokens_and_a_transcript_also_when_run_again(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        for _ in range(2):
            cells = [kernel.run(code, timeout=120).check() for code in code_of(FIFTH)]
            shown = [result for cell in cells for result in cell.results + cell.displays]
            assert sum("image/png" in result for result in shown) == 4
            text = "\n".join(str(result["text/plain"]) for result in shown)
            for words in (
                "No such file or directory: 'missing.py'",
                "input_tokens",
                "thorough",
                "Tool call",
                "end_turn",
            ):
                assert words in text, words
            assert kernel.value("sorted(set(statuses))") == ["completed", "failed"]
            assert kernel.value("statuses.count('failed')") == 4
            assert kernel.value("int(messages['attempts'].max())") == 3
            assert kernel.value("int((messages['attempts'] == 2).sum()) > 0") is True
            assert kernel.value("bool((tokens.loc['thorough'] > tokens.loc['quick']).all())") is True
            assert kernel.value("ratings[['review', 'stars']].values.tolist()") == [
                [101, 5],
                [102, 4],
                [103, 3],
                [104, 4],
            ]
        kernel.run("rows = await registry.messages(actor='rater')").check()
        assert kernel.value("rows['status'].tolist()") == ["completed"] * 4


# --- notebook 06 ---


def test_the_sixth_notebook_sends_itself_signed_issues_also_after_a_restart(tmp_path: Path) -> None:
    shown: list[str] = []
    with Kernel(tmp_path) as kernel:
        shown += [run_all(kernel, SIXTH), run_all(kernel, SIXTH)]
        kernel.restart()
        shown.append(run_all(kernel, SIXTH))
        assert messages(kernel) == {"messages": 63, "attempts": 63, "statuses": ["completed"]}
    for text in shown:
        first, again = re.findall(r"\(202, {'message_id': '(\w+)', 'repeated': (?:False|True)}\)", text)
        assert first == again
        assert "bug\n# Login redirect broken\n\nIt used to work" in text
        assert "(204, None)" in text
        assert "(401," in text
        assert "{'bug': 14, 'question': 6}" in text
        assert "issue_worker/docs" in text


# --- the demo ---


def demo(here: Path, *words: str, home: Path, environment: Mapping[str, str] | None = None) -> Sequence[Any]:
    """Run ``agentq demo`` in ``here`` with an empty home; its exit code, output and errors."""
    ran = subprocess.run(
        [sys.executable, "-m", "agentq_nb.cli", "demo", *words],
        cwd=here,
        env=demo_environment(home) | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=180,
    )
    return ran.returncode, ran.stdout, ran.stderr


def demo_environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON", "AGENTQ"))}
    return kept | {"HOME": str(home), "PYTHONPATH": str(PROJECT)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def here(tmp_path: Path) -> Path:
    made = tmp_path / "here"
    made.mkdir()
    return made


def test_the_demo_reviews_a_folder_and_leaves_a_notebook_and_a_page_that_loads_nothing(
    folder: Path, here: Path, home: Path
) -> None:
    code, said, complained = demo(here, str(folder), home=home)
    assert (code, complained) == (0, "")
    assert "Reviewing 7 files" in said
    assert re.findall(r"(\d) of 7 reviewed", said)[-1] == "7"
    assert re.search(r"deep/bad\.py +completed +2 +2", said)
    assert "jupyterlab agentq-demo.ipynb" in said
    assert list(home.iterdir()) == []
    notebook = nbformat.read(here / "agentq-demo.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count is None] == []
    page = (here / "agentq-demo.html").read_text(encoding="utf-8")
    assert "deep/bad.py" in page
    assert "<odd>" not in page
    assert re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=|<link[^>]*\bhref=|\bimport\s*\(?['\"]https?:", page) == []


def test_the_demo_run_twice_finds_its_first_reviews_and_makes_only_what_changed(
    folder: Path, here: Path, home: Path
) -> None:
    assert demo(here, str(folder), home=home)[0] == 0
    (folder / "good.py").write_text("changed = True\n")
    code, said, _ = demo(here, str(folder), home=home, environment={"AGENTQ_DB": str(here / "mine.duckdb")})
    assert code == 0
    assert re.findall(r"(\d) of 7 reviewed", said)[-1] == "7"
    assert not (here / "mine.duckdb").exists()
    counted = subprocess.run(
        [sys.executable, "-m", "agentq_nb.cli", "sql", "select count(*) as messages, sum(attempts) from messages"],
        cwd=here, env=demo_environment(home), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert counted.stdout.split()[-2:] == ["8", "8"]


def test_the_demo_leaves_a_notebook_that_runs_again_on_the_same_folder(folder: Path, here: Path, home: Path) -> None:
    assert demo(here, str(folder), home=home)[0] == 0
    with Kernel(here, {"JPY_SESSION_NAME": str(here / "agentq-demo.ipynb")}) as kernel:
        assert "7 of 7 reviewed" in run_all(kernel, here / "agentq-demo.ipynb")
        assert messages(kernel)["messages"] == 7


def test_an_interrupted_demo_says_so_and_the_next_one_goes_on(here: Path, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        (folder / f"file{number}.py").write_text(f"number = {number}\n")
    command = [sys.executable, "-m", "agentq_nb.cli", "demo", str(folder)]
    with subprocess.Popen(
        command, cwd=here, env=demo_environment(home), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # What a shell runs in its background ignores Ctrl-C, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:  # fmt: skip
        assert running.stdout is not None
        for line in running.stdout:
            if "of 300 reviewed" in line:
                running.send_signal(signal.SIGINT)
                break
        _, complained = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted" in complained
    code, said, _ = demo(here, str(folder), home=home)
    assert code == 0
    assert "300 of 300 reviewed" in said


def test_bad_input_of_the_demo_is_one_line_and_exit_code_2(here: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "file.py").write_text("a = 1\n")
    for name, complaint in [
        ("missing", "there is no folder"),
        ("file.py", "is a file"),
        ("empty", "has no readable source files"),
        ("pictures", "has no readable source files"),
    ]:
        code, said, complained = demo(here, str(tmp_path / name), home=home)
        assert (code, said) == (2, "")
        assert complaint in complained
        assert complained.count("\n") == 1
    assert list(here.iterdir()) == []


def test_the_demo_in_a_folder_that_cannot_be_written_is_one_line_and_exit_code_2(
    folder: Path, here: Path, home: Path
) -> None:
    # Permissions do not hold root back, /proc does.
    unwritable = Path("/proc") if sys.platform == "linux" else here
    here.chmod(0o500)
    code, said, complained = demo(unwritable, str(folder), home=home)
    assert (code, said) == (2, "")
    assert "cannot be written" in complained
    assert complained.count("\n") == 1


def test_a_demo_whose_store_another_kernel_has_says_who_and_fails(folder: Path, here: Path, home: Path) -> None:
    with Kernel(here, {"JPY_SESSION_NAME": str(here / "agentq-demo.ipynb")}) as kernel:
        kernel.run("%load_ext agentq_nb\n%agentq start").check()
        code, _, complained = demo(here, str(folder), home=home)
        assert code == 1
        assert str(kernel.pid) in complained
        assert "Traceback" not in complained
