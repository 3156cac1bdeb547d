"""Run the cells of a notebook in this process, without a kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import nbformat
from IPython.core.interactiveshell import InteractiveShell

from agentq_nb._commands.parser import UsageError
from agentq_nb.errors import AgentqError


class CellFailed(AgentqError):
    """A cell of a notebook that was to be hosted failed."""

    code = "cell_failed"


class NotebookCells:
    """The code cells of a notebook, and the IPython shell in which they run. There is one in a process.

    Raises UsageError for a file that is no notebook.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            notebook = cast("Any", nbformat).read(path, as_version=4)  # it has no types
        except Exception as error:  # whatever the JSON is broken at
            raise UsageError(f"{path} cannot be read as a notebook: {type(error).__name__}.") from None
        self._cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
        os.chdir(path.parent)
        self._shell: Any = InteractiveShell.instance(colors="nocolor")
        # The variable in which VS Code names the notebook: the queues' file is kept beside it.
        self._shell.user_ns["__vsc_ipynb_file__"] = str(path)
        self._shell.extension_manager.load_extension("agentq_nb")

    @property
    def namespace(self) -> dict[str, Any]:
        """The notebook's variables."""
        return self._shell.user_ns

    def run(self) -> None:
        """Run the cells from first to last. Raises CellFailed, after the traceback was printed."""
        for number, cell in enumerate(self._cells, 1):
            result = self._shell.run_cell(cell.source, store_history=True)
            if result.success or "raises-exception" in cell.metadata.get("tags", []):
                continue
            error = result.error_before_exec or result.error_in_exec
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt
            if isinstance(error, AgentqError) and error.full_code == "host.no_page":
                continue  # a dashboard, which is for those who look at the notebook
            raise CellFailed(
                f"Code cell {number} of {self._path} failed ({type(error).__name__}), so that it is not hosted. Give the "
                "cell the tag raises-exception if that is as it should be."
            )
