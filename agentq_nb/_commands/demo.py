"""``agentq demo``: run notebook 01 on a folder of the user's, in a real kernel, without a browser.

Run again in the same folder, it continues: each file is sent with an idempotency key made of its path and contents, so
a file reviewed before is found in the store beside the notebook, and only changed ones are reviewed.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import word
from agentq_nb._core.paths import SUFFIX
from agentq_nb._core.threads import in_long_thread
from agentq_nb._demo import source_files

if TYPE_CHECKING:
    from nbformat import NotebookNode

_BAD_INPUT = 2


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Review the source files of a folder in a real kernel, and leave the notebook and a page of it here."""

    name: ClassVar[str] = "demo"
    where: ClassVar[Where] = "shell"

    folder: str | None = word("FOLDER", "what to review (default: this package's own source)", optional=True)

    async def run(self, context: CommandContext) -> int:
        return await in_long_thread(self.show)

    def show(self) -> int:
        """Run the demo for callers without an event loop, in a loop of its own. Returns the exit code.

        Leaves the executed notebook, a page of it and its store in the current folder. Returns 0 when every cell ran, 1
        when one failed, 2 when there is nothing to review or no place to write, 130 when interrupted; work that was
        sent survives all of these.
        """
        # What runs notebooks takes a while to import.
        from agentq_nb._commands.demo_notebook import NAME, Stopped, execute, notebook_for, page, save

        here = Path.cwd()
        folder = Path(self.folder or Path(__file__).parents[1]).expanduser().absolute()
        if complaint := _unusable(folder) or _unwritable(here):
            print(f"agentq demo: {complaint}", file=sys.stderr)
            return _BAD_INPUT
        print(f"Reviewing {_files(len(source_files(folder)))} of {folder}, one message each, in a kernel of its own.")
        notebook = notebook_for(folder)
        began = time.monotonic()
        try:
            execute(notebook, here, _Progress().heard)
        except Stopped as stopped:
            print(f"\nagentq demo: {stopped}\n{NAME}.ipynb shows how far it came.", file=sys.stderr)
            return stopped.exit_code
        finally:
            save(notebook, here / f"{NAME}.ipynb")
        (here / f"{NAME}.html").write_text(page(notebook), encoding="utf-8")
        print(f"\n{_results(notebook)}\n\nDone in {time.monotonic() - began:.1f} s. In this folder now:")
        print(f"  {NAME}.ipynb          the notebook as it ran\n  {NAME}.html           the same as a page")
        print(f"  {NAME}{SUFFIX}  its queues and results\nTo continue in JupyterLab: {_how_to_open(NAME)}")
        return 0


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


def _results(notebook: NotebookNode) -> str:
    """Return the table of results as text: the output of the cell marked for it, no wider than the terminal, if any."""
    shown = [cell.outputs for cell in notebook.cells if "results" in cell.metadata.get("tags", [])]
    texts = [str(output.data["text/plain"]) for outputs in shown for output in outputs if "data" in output]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return "\n".join(line[:width] for text in texts for line in text.splitlines())


def _how_to_open(name: str) -> str:
    python = shlex.quote(sys.executable)
    install = "" if find_spec("jupyterlab") else f"{python} -m pip install jupyterlab && "
    return f"{install}{python} -m jupyterlab {name}.ipynb"
