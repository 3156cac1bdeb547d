"""One line after a cell names what failed since the last one. Background tasks print nothing into other cells."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING

from agentq_nb._actor.failure_record import FAILURES, new_failures
from agentq_nb._core.safe_text import LONGEST_TEXT, safe
from agentq_nb._notebook.ipython_types import kernel_of

if TYPE_CHECKING:
    from agentq_nb._notebook.ipython_types import CellInfo, CellResult, Shell

_MOST_TOLD = 3
_MOST_KEPT = 100


class Alerts(logging.Handler):
    """Collects the warnings of the ``agentq`` loggers, which Python would print wherever its output goes just then."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(logging.WARNING)
        self._shell = shell
        self._cells: list[bool] = []
        """The cells that run, one inside another: whether a person ran it."""
        self._warnings: Counter[str] = Counter()
        self._told = FAILURES.counts()
        self.on = True

    def install(self) -> None:
        """Begin to collect."""
        logging.getLogger("agentq").addHandler(self)

    def remove(self) -> None:
        """Undo ``install``."""
        logging.getLogger("agentq").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of a warning; failures are counted elsewhere."""
        text = record.getMessage()
        if not hasattr(record, "failure") and (text in self._warnings or len(self._warnings) < _MOST_KEPT):
            self._warnings[text] += 1

    def cell_begins(self, info: CellInfo | None = None) -> None:
        """Connected to ``pre_run_cell``, which IPython does not call for silent executions."""
        self._cells.append(info is None or bool(info.store_history))

    def cell_ends(self, result: CellResult | None = None) -> None:
        """Connected to ``post_run_cell``. A cell inside another one tells nothing by itself."""
        typed = self._cells.pop() if self._cells else True
        if typed and not self._cells and (lines := self._news()) and self.on and self._somebody_reads():
            more = f" And {len(lines) - _MOST_TOLD} more kinds of failures." if len(lines) > _MOST_TOLD else ""
            text = f"agentq: {' '.join(lines[:_MOST_TOLD])}{more} More: %agentq status, %agentq dead"
            print(" ".join(safe(text, LONGEST_TEXT).split()), file=sys.stderr, flush=True)

    def _news(self) -> list[str]:
        """A sentence for each kind of failure since the last cell."""
        counts = FAILURES.counts()
        failures, self._told = new_failures(self._told, counts), counts
        self.acquire()
        try:
            warnings, self._warnings = self._warnings, Counter[str]()
        finally:
            self.release()
        return [_sentence(failure.text) for failure in failures] + [_sentence(text) for text in warnings]

    def _somebody_reads(self) -> bool:
        """nbconvert, papermill and Voila run cells without a way to ask anybody; front ends for people have one."""
        kernel = kernel_of(self._shell)
        return kernel is None or bool(getattr(kernel, "_allow_stdin", True))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
