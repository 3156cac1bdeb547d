"""``agentq demo``: run notebook 01 on a folder of the user's, in a real kernel, without a browser.

Run again in the same folder, it continues: each file is sent with an idempotency key made of its path and contents, so
a file reviewed before is found in the store beside the notebook, and only changed ones are reviewed.
"""

# nbformat reads and writes without type annotations.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.exporters import HTMLExporter

from agentq_nb._core.paths import SUFFIX, VARIABLE
from agentq_nb._demo import source_files

NOTEBOOK = "01_first_queue.ipynb"
"""The notebook to run."""

NAME = "agentq-demo"
"""The stem of the results in the current folder (.ipynb, .html and .agentq.duckdb) and of the folder of workspaces."""

_BAD_INPUT = 2
_INTERRUPTED = 130
_KEPT = "What was sent is kept: the same command goes on with it."

# The page is self-contained: it loads nothing from elsewhere.
_PAGE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""


def main(folder: Path | None = None) -> int:
    """Review the source files below ``folder`` (default: this package's own) and show the reviews.

    Leaves the executed notebook, a page of it and its store in the current folder. Returns 0 when every cell ran, 1
    when one failed, 2 when there is nothing to review or no place to write, 130 when interrupted; work that was sent
    survives all of these.
    """
    here = Path.cwd()
    folder = (folder or Path(__file__).parents[1]).expanduser().absolute()
    if complaint := _unusable(folder) or _unwritable(here):
        print(f"agentq demo: {complaint}", file=sys.stderr)
        return _BAD_INPUT
    print(f"Reviewing {_files(len(source_files(folder)))} of {folder}, one message each, in a kernel of its own.")
    notebook = _notebook_for(folder)
    began = time.monotonic()
    try:
        _execute(notebook, here, _Progress().heard)
    except _Stopped as stopped:
        print(f"\nagentq demo: {stopped}\n{NAME}.ipynb shows how far it came.", file=sys.stderr)
        return stopped.exit_code
    finally:
        nbformat.write(notebook, here / f"{NAME}.ipynb")
    (here / f"{NAME}.html").write_text(_page(notebook), encoding="utf-8")
    print(f"\n{_results(notebook)}\n\nDone in {time.monotonic() - began:.1f} s. In this folder now:")
    print(f"  {NAME}.ipynb          the notebook as it ran\n  {NAME}.html           the same as a page")
    print(f"  {NAME}{SUFFIX}  its queues and results\nTo go on in JupyterLab: {_how_to_open()}")
    return 0


# --- preparation ---


def _unusable(folder: Path) -> str | None:
    if not folder.exists():
        return f"there is no folder {folder}."
    if not folder.is_dir():
        return f"{folder} is a file; give the folder it is in."
    if not source_files(folder):
        return f"{folder} has no readable source files."
    return None


def _unwritable(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        reason = error.strerror or str(error)
        return f"the current folder {folder} cannot be written ({reason}); change to one that can."


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def _notebook_for(folder: Path) -> nbformat.NotebookNode:
    """Return notebook 01 with the folder written into it, so that the result can be run again unchanged."""
    notebook = cast("nbformat.NotebookNode", nbformat.read(_find_notebook(), as_version=4))
    for cell in notebook.cells:
        if "folder" in cell.metadata.get("tags", []):
            cell.source = f"from pathlib import Path\n\nFOLDER = Path({str(folder)!r})"
    return notebook


def _find_notebook() -> Path:
    """Find the notebook: in the package of a wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "_notebooks" / NOTEBOOK
    return inside if inside.exists() else package.parent / "notebooks" / NOTEBOOK


# --- execution ---


class _ThisPythonSpec(KernelSpecManager):
    """Uses this Python for the kernel, whichever kernels are installed elsewhere."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3 (ipykernel)", language="python")


class _Stopped(Exception):
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


def _execute(notebook: nbformat.NotebookNode, here: Path, heard: Callable[[str], None]) -> None:
    """Run all cells, writing their outputs into the notebook. Raises _Stopped."""
    # The kernel's own files go here: it neither leaves nor needs anything in the user's home.
    with (
        tempfile.TemporaryDirectory(prefix=f"{NAME}-", ignore_cleanup_errors=True) as scratch,
        Path(scratch, "stderr").open("w+b") as stderr,
    ):
        running = _NotebookRun(notebook, here, scratch, heard)
        try:
            asyncio.run(running.to_the_end(env=_environment(here, scratch), stderr=stderr))
        except KeyboardInterrupt as error:
            raise _Stopped(f"interrupted. {_KEPT}", _INTERRUPTED) from error
        except CellExecutionError as error:
            raise _Stopped(f"a cell failed with {error.ename}: {error.evalue}") from error
        except RuntimeError as error:
            stderr.seek(0)
            said = stderr.read().decode(errors="replace").strip()
            raise _Stopped(f"the kernel ended: {error}. {_KEPT}\n{said}".rstrip()) from error


def _environment(here: Path, scratch: str) -> dict[str, str]:
    """Return variables that tell the kernel its notebook and store, as a front end would: those in ``here``."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return environment | {
        "JPY_SESSION_NAME": str(here / f"{NAME}.ipynb"),
        "IPYTHONDIR": scratch,
        "JUPYTER_RUNTIME_DIR": scratch,
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


class _Progress:
    """Shows the progress that the notebook prints: one live line on a terminal, elsewhere a line each tenth."""

    _REPORT = re.compile(r"(\d+) of (\d+) reviewed")

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._tenths = -1

    def heard(self, text: str) -> None:
        for report in self._REPORT.finditer(text):
            done, total = int(report[1]), int(report[2])
            if self._live:
                print(f"\r  {report[0]}", end="\n" if done == total else "", flush=True)
            elif (tenths := 10 * done // total) > self._tenths:
                self._tenths = tenths
                print(f"  {report[0]}", flush=True)


# --- results ---


def _page(notebook: nbformat.NotebookNode) -> str:
    exporter = HTMLExporter(raw_template=_PAGE)
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": NAME}})
    return str(page)


def _results(notebook: nbformat.NotebookNode) -> str:
    """Return the table of results as text: the output of the cell marked for it, no wider than the terminal, if any."""
    shown = [cell.outputs for cell in notebook.cells if "results" in cell.metadata.get("tags", [])]
    texts = [str(output.data["text/plain"]) for outputs in shown for output in outputs if "data" in output]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return "\n".join(line[:width] for text in texts for line in text.splitlines())


def _how_to_open() -> str:
    python = shlex.quote(sys.executable)
    install = "" if find_spec("jupyterlab") else f"{python} -m pip install jupyterlab && "
    return f"{install}{python} -m jupyterlab {NAME}.ipynb"
