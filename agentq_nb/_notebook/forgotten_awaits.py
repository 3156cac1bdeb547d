"""Print one line after a cell for each call that was not awaited in it."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from agentq_nb._core.safe_text import LONGEST_TEXT, safe
from agentq_nb._host import unawaited_calls
from agentq_nb._host.unawaited_calls import Coroutine, Unawaited

if TYPE_CHECKING:
    from agentq_nb._notebook.ipython_types import CellInfo, CellResult, Shell

_MOST_SHOWN = 3
_MOST_KEPT = 100


class ForgottenAwaits:
    """Finds coroutines that a cell has dropped, displayed or put into variables and lists."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._cells: list[bool] = []
        """The running cells, nested: whether the user ran each."""
        self._lock = threading.Lock()
        self._calls: Counter[Unawaited] = Counter()

    def install(self) -> None:
        """Start looking."""
        unawaited_calls.listen(self._dropped)

    def remove(self) -> None:
        """Undo ``install``."""
        unawaited_calls.listen(None)

    def cell_begins(self, info: CellInfo | None = None) -> None:
        """Connected to ``pre_run_cell``, which IPython does not call for silent executions."""
        self._cells.append(info is None or bool(info.store_history))

    def cell_ends(self, result: CellResult | None = None) -> None:
        """Connected to ``post_run_cell``. A cell that runs inside another one prints nothing."""
        typed = self._cells.pop() if self._cells else True
        if not typed or self._cells:
            return
        for coroutine in {id(kept): kept for kept in self._kept()}.values():
            if (call := unawaited_calls.call_of(coroutine, self._shell.user_ns)) is not None:
                unawaited_calls.mark_reported(coroutine)
                self._dropped(call)
        with self._lock:
            calls, self._calls = self._calls, Counter[Unawaited]()
        for call, count in calls.most_common(_MOST_SHOWN):
            print(" ".join(safe(f"agentq: {call.text(count)}", LONGEST_TEXT).split()), file=sys.stderr, flush=True)

    def _dropped(self, call: Unawaited) -> None:
        """Count a call. Thread-safe."""
        with self._lock:
            if call in self._calls or len(self._calls) < _MOST_KEPT:
                self._calls[call] += 1

    def _kept(self) -> Iterator[Coroutine]:
        """Yield coroutines held by variables, by results that the notebook keeps, and by collections in these."""
        for value in list(self._shell.user_ns.values()):
            if unawaited_calls.waits(value):
                yield value
            elif type(value) in (list, tuple, set, dict):
                yield from _in_collection(value)


def _in_collection(values: Any) -> Iterator[Coroutine]:
    items = cast(Iterable[object], values.values() if type(values) is dict else values)
    if unawaited_calls.is_coroutine(next(iter(items), None)):  # do not search a long list of other values
        yield from (item for item in list(items) if unawaited_calls.waits(item))
