"""Keep a cell's outputs and its end with that cell while widgets talk to the kernel.

A kernel attributes everything it publishes to a parent request. Since version 7.4, ipykernel answers widgets while a
cell awaits. Afterwards it restores the previous parent, even if that cell has ended and the next one has begun: then
the end of the next cell is attributed to the wrong cell, and the page keeps showing ``[*]``.
"""

from __future__ import annotations

import inspect
from collections import deque
from typing import Any

_REMEMBERED = 1000
"""How many ended requests are remembered. A late answer to a widget comes a cell or two later, not a thousand."""


class ParentHeader:
    """While installed in a kernel, prevents a request that has ended from becoming the parent again."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        self._loading: str | None = None

    def install(self) -> None:
        """Wrap two methods of the kernel, if its version has the bug."""
        dispatch = getattr(self._kernel, "dispatch_shell", None)
        if dispatch is None or "concurrent" not in inspect.signature(dispatch).parameters:
            return
        self._dispatch_before, self._set_before = dispatch, self._kernel.set_parent
        self._loading = self._parent()  # the cell that loads this began before `_dispatch` was installed
        self._kernel.dispatch_shell, self._kernel.set_parent = self._dispatch, self._set

    def remove(self) -> None:
        """Restore the kernel's own methods, unless other code has wrapped them since."""
        own: dict[str, Any] = getattr(self._kernel, "__dict__", {})
        for name, ours in (("dispatch_shell", self._dispatch), ("set_parent", self._set)):
            if own.get(name) == ours:
                delattr(self._kernel, name)

    async def _dispatch(
        self, message: Any, /, subshell_id: str | None = None, *, concurrent: bool = False, **options: Any
    ) -> None:
        if not concurrent and subshell_id is None and self._loading is not None:
            self._ended.append(self._loading)
            self._loading = None
        await self._dispatch_before(message, subshell_id=subshell_id, concurrent=concurrent, **options)
        if not concurrent:
            self._ended.append(self._parent())

    def _set(self, ident: Any, parent: Any, channel: str = "shell") -> None:
        if channel == "shell" and _identity(parent) in self._ended:
            # Set again, since threads and callbacks may still have the widget's request as their parent.
            ident, parent = self._kernel._parent_ident["shell"], self._kernel.get_parent("shell")
        self._set_before(ident, parent, channel)

    def _parent(self) -> str:
        return _identity(self._kernel.get_parent("shell"))


def _identity(parent: Any) -> str:
    return str(parent.get("header", {}).get("msg_id", ""))
