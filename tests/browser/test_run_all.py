"""Run All on every notebook of the project, in JupyterLab and in Notebook 7, and what a reader sees later."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser.driving import NARROW, WIDE, Lab
from tests.browser.serving import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs_in_jupyterlab_and_is_readable_afterwards_without_a_kernel(
    lab: Lab, folder: Path, notebook: Path
) -> None:
    copy = Path(shutil.copy(notebook, folder))
    lab.open(copy)
    lab.run_all(timeout=240)
    lab.screenshots(f"{notebook.stem}-light-wide")
    lab.set_theme("dark")
    lab.set_width(NARROW)
    lab.screenshots(f"{notebook.stem}-dark-narrow")
    lab.run("%agentq stop;")  # what was shown live is a picture from here on
    forms = lab.notebook.locator(".agentq").all_inner_texts()
    assert forms
    lab.save()
    for reader in (copy, untrusted(copy)):
        lab.server.shut_down_kernels()
        lab.open(reader, kernel=False)
        assert lab.notebook.locator(".agentq").all_inner_texts() == forms
        assert lab.notebook.get_by_text("Error displaying widget").count() == 0
    lab.set_width(WIDE)
    wider = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.innerText.slice(0, 80))"
    assert lab.notebook.locator(".agentq div").evaluate_all(wider) == [], "something is cut at the right"
    lab.screenshots(f"{notebook.stem}-dark-untrusted")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs_in_notebook_7(notebook7: Lab, notebook: Path) -> None:
    folder = notebook7.server.root / notebook.stem
    folder.mkdir()
    copy = Path(shutil.copy(notebook, folder))
    notebook7.open(copy)
    notebook7.run_all(timeout=240)
    if "%agentq dashboard" in [cell.source for cell in notebook7.cells]:
        expect(notebook7.notebook.locator("[data-agentq-picture=dashboard]")).to_contain_text("task_runner/main")
    notebook7.screenshots(f"{notebook.stem}-notebook7")


def untrusted(notebook: Path) -> Path:
    """A copy that another program changed, so that its signature does not hold and its output is not trusted."""
    content = nbformat.read(notebook, as_version=4)
    content.metadata["changed"] = True
    copy = notebook.with_stem(f"{notebook.stem}-untrusted")
    nbformat.write(content, copy)
    return copy
