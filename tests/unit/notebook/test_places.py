"""Where the store and the workspaces of a notebook go."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentq_nb._core import paths
from agentq_nb._core.paths import notebook_path, store_path, workspaces_path


@pytest.fixture
def in_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process were a kernel."""
    monkeypatch.setattr(paths, "kernel_of_shell", object)


def test_what_was_asked_for_comes_first_then_the_variable_then_the_notebook(tmp_path: Path) -> None:
    notebook = tmp_path / "my analysis.ipynb"
    environ = {"AGENTQ_DB": str(tmp_path / "variable.duckdb")}
    assert store_path(tmp_path / "asked.duckdb", environ, notebook) == (tmp_path / "asked.duckdb", None)
    assert store_path(None, environ, notebook) == (tmp_path / "variable.duckdb", None)
    assert store_path(None, {}, notebook) == (tmp_path / "my analysis.agentq.duckdb", None)


def test_without_any_of_them_it_is_in_the_working_directory_and_a_notice_says_so(tmp_path: Path) -> None:
    path, notice = store_path(None, {"AGENTQ_DB": ""}, None)
    assert path == Path.cwd() / "agentq.duckdb"
    assert notice is not None
    assert "--store PATH" in notice


def test_a_home_folder_and_relative_paths_become_absolute() -> None:
    assert store_path("~/x.duckdb", {}, None)[0] == Path.home() / "x.duckdb"
    assert store_path("sub/x.duckdb", {}, None)[0] == Path.cwd() / "sub/x.duckdb"


def test_workspaces_lie_beside_the_store() -> None:
    assert workspaces_path(Path("/a/work.agentq.duckdb")) == Path("/a/work.agentq")
    assert workspaces_path(Path("/a/agentq.duckdb")) == Path("/a/agentq.agentq")
    assert workspaces_path(Path("/a/mine")) == Path("/a/mine.agentq")


@pytest.mark.usefixtures("in_kernel")
def test_vs_code_says_the_path_in_the_namespace_and_jupyterlab_in_the_environment(tmp_path: Path) -> None:
    lab, code = str(tmp_path / "lab.ipynb"), str(tmp_path / "code.ipynb")
    assert notebook_path({"JPY_SESSION_NAME": lab}, {"__vsc_ipynb_file__": code}) == Path(code)
    assert notebook_path({"JPY_SESSION_NAME": lab}, {}) == Path(lab)


@pytest.mark.usefixtures("in_kernel")
def test_what_is_no_notebook_of_this_machine_is_not_believed(tmp_path: Path) -> None:
    for said in ("", "console-1-9f2d", "relative.ipynb", str(tmp_path / "gone" / "x.ipynb"), str(tmp_path / "console")):
        assert notebook_path({"JPY_SESSION_NAME": said}, {}) is None
    assert notebook_path({}, {"__vsc_ipynb_file__": 5}) is None


@pytest.mark.usefixtures("in_kernel")
def test_text_files_that_jupytext_opens_count_as_notebooks(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text("1")
    assert notebook_path({"JPY_SESSION_NAME": str(script)}, {}) == script


def test_a_program_that_a_kernel_launches_has_its_environment_and_not_its_notebook(tmp_path: Path) -> None:
    assert notebook_path({"JPY_SESSION_NAME": str(tmp_path / "lab.ipynb")}, {}) is None
    assert (
        notebook_path({"JPY_SESSION_NAME": str(tmp_path / "lab.ipynb")}, {"__file__": str(tmp_path / "job.py")}) is None
    )


def test_voila_says_which_notebook_it_runs_for_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = tmp_path / "my app.ipynb"
    environ = {"SERVER_SOFTWARE": "voila/0.5.13", "SCRIPT_NAME": "/voila/render/sub/my%20app.ipynb"}
    assert notebook_path(environ, {}) is None
    notebook.write_text("{}")
    assert notebook_path(environ, {}) == notebook
    assert notebook_path({**environ, "SERVER_SOFTWARE": "Apache"}, {}) is None
