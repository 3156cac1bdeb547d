"""Which notebook papermill and nbconvert execute, told by the words they were called with; and who had a file before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from agentq_nb._core.programs import Command, executed_notebook, is_kernel

START = """
from agentq_nb import setup
registry = setup()
await registry.start()
print(registry.store_path.name, *registry.notices)
await registry.stop()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("in.ipynb", "other.ipynb", "my work.ipynb"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("python /bin/papermill in.ipynb out/1.ipynb", "out/1.ipynb"),
        ("python -m papermill -p name value.ipynb in.ipynb out/1.ipynb", "out/1.ipynb"),
        ("/bin/papermill in.ipynb", "in.ipynb"),
        ("/bin/papermill in.ipynb s3://bucket/1.ipynb", "in.ipynb"),
        ("python /bin/jupyter-nbconvert --execute --to html in.ipynb", "in.ipynb"),
        ("python -m nbconvert in --execute --output other.ipynb", "in.ipynb"),
        ("python /bin/jupyter-execute in", "in.ipynb"),
        ("python /bin/jupyter-execute in.ipynb other.ipynb", None),
        ("python /bin/jupyter-nbconvert --execute *.ipynb", None),
        ("python /bin/voila in.ipynb --port 8866", "in.ipynb"),
        ("python -m voila .", None),
        ("python /bin/jupyter-lab in.ipynb", None),
        ("python job.py in.ipynb", None),
    ],
)
def test_the_notebook_is_found_in_the_words_of_its_launcher(folder: Path, words: str, expected: str | None) -> None:
    found = executed_notebook(Command(words.split(), [folder]))
    assert found == (None if expected is None else folder / expected)


def test_spaces_and_the_folder_before_cwd_was_changed_are_no_obstacle(folder: Path) -> None:
    words = ["python", "/bin/jupyter-nbconvert", "--execute", "my work.ipynb"]
    assert executed_notebook(Command(words, [folder / "out", folder])) == folder / "my work.ipynb"


def test_a_kernel_launched_by_a_kernel_is_known_as_such() -> None:
    assert is_kernel(Command(["python", "-m", "ipykernel_launcher", "-f", "kernel.json"]))
    assert not is_kernel(Command(["python", "/bin/jupyter-lab"]))
    assert not is_kernel(None)


def test_a_notebook_that_nbconvert_executes_and_scripts_beside_it_do_not_share_a_file_silently(tmp_path: Path) -> None:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(START)], metadata=kernel)
    nbformat.write(notebook, tmp_path / "work.ipynb")
    body = "".join(f"    {line}\n" for line in START.strip().splitlines())
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(f"import asyncio\nasync def main():\n{body}\nasyncio.run(main())\n")
    first, second, again = (_run(tmp_path, name) for name in ("one.py", "two.py", "two.py"))
    assert "agentq.duckdb" in first.stdout
    assert "was used by" not in first.stderr
    assert f"was used by the program {tmp_path / 'one.py'} before" in second.stderr
    assert "was used by" in second.stdout
    assert "was used by" not in again.stderr
    _run(tmp_path, "-m", "nbconvert", "--execute", "--inplace", "--to", "notebook", "work.ipynb")
    said = nbformat.read(tmp_path / "work.ipynb", as_version=4).cells[0].outputs[0]["text"]
    assert said.strip() == "work.agentq.duckdb"


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [sys.executable, *words], cwd=folder, text=True, capture_output=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended
