"""Run the notebook of ``agentq demo`` in a kernel of its own, and make a page of it."""

# nbformat reads and writes without type annotations.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.exporters import HTMLExporter

from agentq_nb._core.paths import VARIABLE

NAME = "agentq-demo"
"""The stem of the results in the current folder (.ipynb, .html and .agentq.duckdb) and of the folder of workspaces."""

_NOTEBOOK = "01_first_queue.ipynb"
_INTERRUPTED = 130
_KEPT = "Messages that were sent are kept: the same command continues with them."

# The page is self-contained: it loads nothing from elsewhere.
_PAGE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""


def notebook_for(folder: Path) -> nbformat.NotebookNode:
    """Return notebook 01 with the folder written into it, so that the result can be run again unchanged."""
    notebook = cast("nbformat.NotebookNode", nbformat.read(_find_notebook(), as_version=4))
    for cell in notebook.cells:
        if "folder" in cell.metadata.get("tags", []):
            cell.source = f"from pathlib import Path\n\nFOLDER = Path({str(folder)!r})"
    return notebook


def _find_notebook() -> Path:
    """Find the notebook: in the package of a wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "_notebooks" / _NOTEBOOK
    return inside if inside.exists() else package.parent / "notebooks" / _NOTEBOOK


class _ThisPythonSpec(KernelSpecManager):
    """Uses this Python for the kernel, whichever kernels are installed elsewhere."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3 (ipykernel)", language="python")


class Stopped(Exception):
    """The notebook did not run to its end; the message is one line saying why."""

    def __init__(self, reason: str, exit_code: int = 1) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class _NotebookRun(NotebookClient):
    """Executes a notebook in a kernel of its own and passes on what its cells print while they run."""

    def __init__(self, notebook: nbformat.NotebookNode, here: Path, scratch: str, heard: Callable[[str], None]) -> None:
        resources = {"metadata": {"path": str(here)}}
        self._manager = AsyncKernelManager(
            kernel_spec_manager=_ThisPythonSpec(),
            connection_file=str(Path(scratch, "kernel.json")),
            # Sockets in our own folder: no other user of the machine can reach or read them.
            transport="ipc",
            ip=str(Path(scratch, "kernel")),
        )
        super().__init__(notebook, self._manager, timeout=None, coalesce_streams=True, resources=resources)
        self._heard = heard

    async def to_the_end(self, **options: Any) -> None:
        """Execute the notebook.

        Raises CellExecutionError, RuntimeError when the kernel ended, CancelledError when interrupted.
        """
        try:
            await self.async_execute(**options)
        except RuntimeError as error:
            # The base class mistakes an interrupted cell for a dead kernel.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from error
            raise

    @asynccontextmanager
    async def async_setup_kernel(self, **kwargs: Any) -> AsyncGenerator[None, None]:
        """Start the kernel and end it, without the base class's signal handlers, which would keep Ctrl-C from us."""
        await self.async_start_new_kernel(**kwargs)
        try:
            await self.async_start_new_kernel_client()
            yield
        finally:
            if self.kc is not None:
                self.kc.stop_channels()
            await self._manager.shutdown_kernel()

    def process_message(self, msg: dict[str, Any], cell: nbformat.NotebookNode, cell_index: int) -> Any:
        """Handle one output of a cell."""
        if msg["msg_type"] == "stream":
            self._heard(msg["content"]["text"])
        return super().process_message(msg, cell, cell_index)


def execute(notebook: nbformat.NotebookNode, here: Path, heard: Callable[[str], None]) -> None:
    """Run all cells, writing their outputs into the notebook. Raises Stopped."""
    # The kernel's own files go here: it neither leaves nor needs anything in the user's home.
    with (
        tempfile.TemporaryDirectory(prefix=f"{NAME}-", ignore_cleanup_errors=True) as scratch,
        Path(scratch, "stderr").open("w+b") as stderr,
    ):
        running = _NotebookRun(notebook, here, scratch, heard)
        try:
            asyncio.run(running.to_the_end(env=_environment(here, scratch), stderr=stderr))
        except KeyboardInterrupt as error:
            raise Stopped(f"interrupted. {_KEPT}", _INTERRUPTED) from error
        except CellExecutionError as error:
            raise Stopped(f"a cell failed with {error.ename}: {error.evalue}") from error
        except RuntimeError as error:
            stderr.seek(0)
            said = stderr.read().decode(errors="replace").strip()
            raise Stopped(f"the kernel ended: {error}. {_KEPT}\n{said}".rstrip()) from error


def _environment(here: Path, scratch: str) -> dict[str, str]:
    """Return variables that tell the kernel its notebook and store, as a front end would: those in ``here``."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return environment | {
        "JPY_SESSION_NAME": str(here / f"{NAME}.ipynb"),
        "IPYTHONDIR": scratch,
        "JUPYTER_RUNTIME_DIR": scratch,
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write the notebook as far as it ran."""
    nbformat.write(notebook, path)


def page(notebook: nbformat.NotebookNode) -> str:
    """Return a page of the notebook that loads nothing from elsewhere."""
    exporter = HTMLExporter(raw_template=_PAGE)
    made, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": NAME}})
    return str(made)
