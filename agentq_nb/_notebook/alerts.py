"""Print one line after a cell with the failures since the last one, so that they are not printed into other cells."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING

from agentq_nb._actor.failure_record import FAILURES, new_failures
from agentq_nb._core.safe_text import LONGEST_TEXT, safe
from agentq_nb._notebook.ipython_types import has_reader

if TYPE_CHECKING:
    from agentq_nb._notebook.ipython_types import CellInfo, CellResult, Shell

_MOST_SHOWN = 3
_MOST_KEPT = 100


class Alerts(logging.Handler):
    """Collects the warnings of the ``agentq`` loggers, which Python would print into whichever cell is running."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(logging.WARNING)
        self._shell = shell
        self._cells: list[bool] = []
        """The running cells, nested: whether the user ran each."""
        self._warnings: Counter[str] = Counter()
        self._shown = FAILURES.counts()
        self.on = True

    def install(self) -> None:
        """Start collecting."""
        logging.getLogger("agentq").addHandler(self)

    def remove(self) -> None:
        """Undo ``install``."""
        logging.getLogger("agentq").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of a warning; failures are counted in ``failure_record``."""
        text = record.getMessage()
        if not hasattr(record, "failure") and (text in self._warnings or len(self._warnings) < _MOST_KEPT):
            self._warnings[text] += 1

    def cell_begins(self, info: CellInfo | None = None) -> None:
        """Connected to ``pre_run_cell``, which IPython does not call for silent executions."""
        self._cells.append(info is None or bool(info.store_history))

    def cell_ends(self, result: CellResult | None = None) -> None:
        """Connected to ``post_run_cell``. A cell that runs inside another one prints nothing."""
        typed = self._cells.pop() if self._cells else True
        if not typed or self._cells:
            return
        failed, warned = self._news()
        if (lines := failed + warned) and self.on and has_reader(self._shell):
            more = f" And {len(lines) - _MOST_SHOWN} more kinds of failures." if len(lines) > _MOST_SHOWN else ""
            dead = ", %agentq dead" if failed else ""
            text = f"agentq: {' '.join(lines[:_MOST_SHOWN])}{more} More: %agentq status{dead}"
            print(" ".join(safe(text, LONGEST_TEXT).split()), file=sys.stderr, flush=True)

    def _news(self) -> tuple[list[str], list[str]]:
        """Return a sentence for each kind of failure since the last cell, and one for each other warning."""
        counts = FAILURES.counts()
        failures, self._shown = new_failures(self._shown, counts), counts
        self.acquire()
        try:
            warnings, self._warnings = self._warnings, Counter[str]()
        finally:
            self.release()
        return [_sentence(failure.text) for failure in failures], [_sentence(text) for text in warnings]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "]")) else f"{text}."  # an error's text ends with its code in brackets
