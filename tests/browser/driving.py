"""Drives a notebook in JupyterLab or Notebook 7, in Chromium, as a person would, and collects what went wrong in the page.

Playwright runs its own event loop on this thread, so tests here are plain functions, without ``asyncio``.
"""

from __future__ import annotations

import math
import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import nbformat
from playwright.sync_api import Locator, Page

from tests.browser.complaining import complaints_of
from tests.browser.serving import PROJECT, JupyterServer

SCREENSHOTS = Path(os.environ.get("AGENTQ_SCREENSHOTS") or PROJECT / "artefacts" / "screenshots")
"""Where pictures go, for people to look at."""

WIDE, NARROW, HEIGHT = 1400, 640, 1400
"""Sizes of the window in pixels."""

_MOST_PICTURES = 12
_PANEL = "window.jupyterapp.shell.currentWidget"
_SCROLLER = f"{_PANEL}.content.node.querySelector('.jp-WindowedPanel-outer')"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Shown:
    """One code cell as the page has it."""

    source: str
    execution_count: int | None
    running: bool
    """Running or queued: its prompt is ``[*]``."""
    outputs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """As in the notebook format."""

    @property
    def failed(self) -> bool:
        """It ended with an error, or it said that it was not run because an earlier one failed."""
        return any(output["output_type"] == "error" for output in self.outputs)

    @property
    def text(self) -> str:
        """What it printed, showed and raised, as plain text."""
        parts: list[str] = []
        for output in self.outputs:
            if output["output_type"] == "stream":
                parts.append(_joined(output["text"]))
            elif output["output_type"] == "error":
                parts.append(_COLOURS.sub("", "\n".join(output["traceback"])))
            else:
                parts.append(_joined(output["data"].get("text/plain", "")))
        return "\n".join(parts)


class Lab:
    """One window with one notebook of ``server`` in it.

    ``page`` is Playwright's, for everything that has no method here. What the page complained about and asked of the
    network is collected in ``complaints`` and checked by the fixture that made this.
    """

    def __init__(self, page: Page, server: JupyterServer) -> None:
        self.page = page
        self.server = server
        self.complaints = complaints_of(page)
        page.set_default_timeout(60_000)

    # --- the notebook ---

    def open(self, notebook: Path, *, kernel: bool = True) -> None:
        """Show a notebook below the server's root; with its kernel ready, or, as a reader would see it, without one."""
        path = quote(notebook.relative_to(self.server.root).as_posix())
        if not kernel:
            self._go("/lab?reset" if self.server.application == "lab" else "/tree")
            self.page.wait_for_function("window.jupyterapp?.restored.then(() => true)")
            options = {
                "path": path,
                "factory": "Notebook",
                "kernelPreference": {"shouldStart": False, "canStart": False},
            }
            self.command("docmanager:open", options)
        else:
            self._go(f"/lab/tree/{path}?reset" if self.server.application == "lab" else f"/notebooks/{path}")
        self._wait_for_notebook(kernel)

    def open_cells(self, notebook: Path, cells: Sequence[str]) -> None:
        """Write a notebook of these code cells, and open it."""
        made = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(code) for code in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        notebook.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(made, notebook)
        self.open(notebook)

    def reload(self) -> None:
        """Reload the page, as F5 does. The kernel goes on."""
        self.page.reload(wait_until="domcontentloaded")
        self._wait_for_notebook(kernel=True)

    def save(self) -> None:
        """Write the notebook to its file, outputs and widget states included."""
        self.command("docmanager:save")

    # --- cells ---

    @property
    def cells(self) -> list[Shown]:
        """The code cells, in order."""
        found = self.page.evaluate(
            f"""() => {_PANEL}.content.widgets.filter(cell => cell.model.type === 'code').map(cell => ({{
                ...cell.model.toJSON(), running: cell.model.executionState === 'running' }}))"""
        )
        return [
            Shown(_joined(cell["source"]), cell["execution_count"], cell["running"], cell["outputs"]) for cell in found
        ]

    def run_all(self, timeout: float = 180) -> list[Shown]:
        """ "Run All Cells", wait for the last, and return all. Raises AssertionError when one failed or was not run."""
        self.start_all()
        self.wait_until_done(timeout)
        cells = self.cells
        for number, cell in enumerate(cells):
            assert not cell.failed, f"cell {number} failed:\n{cell.source}\n--- shown\n{cell.text}"
            assert cell.execution_count, f"cell {number} was not run:\n{cell.source}\n--- shown\n{cell.text}"
        return cells

    def start_all(self) -> None:
        """ "Run All Cells" without waiting."""
        self._start("notebook:run-all-cells")

    def run(self, code: str, timeout: float = 60) -> Shown:
        """Add a cell at the end, run it, and wait for its end."""
        self.start(code)
        self.wait_until_done(timeout)
        return self.cells[-1]

    def start(self, code: str) -> None:
        """Add a cell at the end and run it without waiting; behind cells that run it is queued."""
        self.page.evaluate(
            f"""code => {{
                const notebook = {_PANEL}.content;
                notebook.activeCellIndex = notebook.widgets.length - 1;
                notebook.model.sharedModel.addCell({{cell_type: 'code', source: code}});
                notebook.deselectAll();
                notebook.activeCellIndex = notebook.widgets.length - 1;
            }}""",
            code,
        )
        self._start("notebook:run-cell")

    def wait_until_done(self, timeout: float = 60) -> None:
        """Wait until no cell runs or is queued."""
        deadline = time.monotonic() + timeout
        while waiting := [number for number, cell in enumerate(self.cells) if cell.running]:
            if time.monotonic() > deadline:
                cell = self.cells[waiting[0]]
                status = self.page.evaluate(f"() => {_PANEL}.sessionContext.session?.kernel?.status")
                raise AssertionError(
                    f"after {timeout:g} s cells {waiting} are still at [*], and the page calls the kernel {status}. "
                    f"The first:\n{cell.source}\n--- shown\n{cell.text}"
                )
            self.page.wait_for_timeout(50)

    # --- the kernel ---

    def value(self, expression: str) -> str:
        """The repr of an expression in the kernel, without a cell. Waits until the kernel has run what is queued."""
        answer = self.page.evaluate(
            f"""async expression => (await {_PANEL}.sessionContext.session.kernel.requestExecute({{
                code: '', silent: true, store_history: false, user_expressions: {{ value: expression }},
            }}).done).content.user_expressions.value""",
            expression,
        )
        assert answer["status"] == "ok", answer
        return str(answer["data"]["text/plain"])

    def interrupt(self) -> None:
        """The stop button."""
        self.command("notebook:interrupt-kernel")

    def restart_kernel(self) -> None:
        """ "Restart Kernel": an orderly end, and a new process. Outputs stay."""
        self.page.evaluate(f"() => {_PANEL}.sessionContext.restartKernel()")
        self._wait_for_kernel()

    def kill_kernel(self, process: int | None = None) -> None:
        """``kill -9``. The server starts another by itself, and the page says so in a dialog, which is closed.

        A kernel that is busy cannot be asked for its ``process``.
        """
        os.kill(process or int(self.value("__import__('os').getpid()")), signal.SIGKILL)
        self.page.locator(".jp-Dialog", has_text="appears to have died").locator("button").last.click()
        self._wait_for_kernel()

    # --- looking ---

    def wait_for_text(self, text: str | re.Pattern[str], timeout: float = 30) -> None:
        """Wait until the notebook shows it somewhere."""
        self.notebook.get_by_text(text).first.wait_for(timeout=timeout * 1000)

    def wait_for_selector(self, css: str, timeout: float = 30) -> None:
        """Wait until the notebook shows an element."""
        self.notebook.locator(css).first.wait_for(timeout=timeout * 1000)

    def until(self, holds: Callable[[], object], timeout: float = 30, otherwise: str = "it never came true") -> None:
        """Wait until ``holds()`` is true; AssertionError with ``otherwise`` after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < deadline, f"after {timeout:g} s: {otherwise}"
            self.page.wait_for_timeout(50)

    @property
    def notebook(self) -> Locator:
        """The notebook's element, as a Playwright locator."""
        return self.page.locator(".jp-NotebookPanel:visible .jp-Notebook, .jp-NotebookPanel:visible.jp-Notebook").first

    def set_theme(self, theme: Literal["light", "dark"]) -> None:
        """JupyterLab's own themes."""
        self.command("apputils:change-theme", {"theme": f"JupyterLab {theme.capitalize()}"})
        self.page.wait_for_selector(f"body[data-jp-theme-light='{str(theme == 'light').lower()}']", state="attached")

    def set_width(self, pixels: int) -> None:
        """The width of the window: ``WIDE``, or ``NARROW``, where the side bar is closed to make room."""
        self.page.set_viewport_size({"width": pixels, "height": HEIGHT})
        if self.page.evaluate("() => !window.jupyterapp.shell.leftCollapsed") == (pixels <= NARROW):
            self.command("application:toggle-left-area")

    def screenshot(self, name: str) -> Path:
        """A picture of the window, for people to look at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        file = SCREENSHOTS / f"{name}.png"
        self.page.wait_for_timeout(150)  # what moves into place has moved
        self.page.screenshot(path=file)
        return file

    def screenshots(self, name: str) -> None:
        """Pictures of the notebook from its first cell on, as far as they go: ``name-1``, ``name-2``, …"""
        height = self.page.evaluate(f"() => {_SCROLLER}.clientHeight")
        end = self.page.evaluate(
            f"""() => {_PANEL}.content.widgets.at(-1).node.getBoundingClientRect().bottom
                - {_SCROLLER}.getBoundingClientRect().top + {_SCROLLER}.scrollTop"""
        )
        for number in range(min(_MOST_PICTURES, math.ceil(end / height))):
            self.page.evaluate(f"top => {{ {_SCROLLER}.scrollTop = top; }}", number * height)
            self.screenshot(f"{name}-{number + 1}")

    # --- inside ---

    def command(self, name: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Run a command of JupyterLab, as its menus do, and wait for its end."""
        self.page.evaluate(
            "async ([name, options]) => { await window.jupyterapp.commands.execute(name, options); }",
            [name, arguments or {}],
        )

    def _start(self, command: str) -> None:
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name); }", command)

    def _go(self, path: str) -> None:
        joint = "&" if "?" in path else "?"
        self.page.goto(f"{self.server.url}{path}{joint}token={self.server.token}", wait_until="domcontentloaded")

    def _wait_for_notebook(self, kernel: bool) -> None:
        self.page.wait_for_function(
            f"window.jupyterapp?.shell && {_PANEL}?.context?.isReady && {_PANEL}.content.widgets"
        )
        if kernel:
            self.page.wait_for_function(f"{_PANEL}.sessionContext.isReady")
            self._wait_for_kernel()

    def _wait_for_kernel(self) -> None:
        self.page.wait_for_function(
            f"""() => {{ const kernel = {_PANEL}.sessionContext.session?.kernel;
                return kernel?.connectionStatus === 'connected' && ['idle', 'busy'].includes(kernel.status); }}"""
        )


def _joined(text: str | Sequence[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
