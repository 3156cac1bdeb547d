"""The widget itself: two traits, one module of JavaScript and one style sheet for whatever is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent


_ROUTE = "_reply_subshell_for"


def _as_addressed(_data: object, subshell: str | None) -> str | None:
    """The subshell to which the page sent it."""
    return subshell


class LiveWidget(anywidget.AnyWidget):
    """A view that is kept up to date by messages of :mod:`agentq_nb._notebook.dashboard.sync`; all else is in the page.

    ``kind`` says what is shown. ``saved`` is never sent by the kernel: the page keeps its last state there, where a front
    end that saves widgets with the notebook finds it.
    """

    # As text, read once: a path would be watched by a thread for each widget.
    _esm = (_HERE / "dashboard.js").read_text(encoding="utf-8")
    _css = (_HERE / "dashboard.css").read_text(encoding="utf-8")
    kind = traitlets.Unicode().tag(sync=True)
    saved = traitlets.Dict().tag(sync=True)

    def __init__(self, kind: str, heard: Callable[[dict[str, Any]], None], show: Callable[[], None]) -> None:
        super().__init__(kind=kind)
        self._heard = heard
        self._show = show
        self.identity: str = self.model_id
        # Since version 7.4, ipykernel hands what a page says to the subshell that seemed to be at work when the widget
        # spoke last, and drops it once that is gone. After a reload of the page it often is: nothing was heard any more.
        setattr(self.comm, _ROUTE, _as_addressed)
        self.on_msg(self._receive)  # pyright: ignore[reportUnknownMemberType]  # ipywidgets has no types

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message to every page that shows it."""
        self.send(message)  # pyright: ignore[reportUnknownMemberType]  # ipywidgets has no types

    def view(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What makes a front end draw the widget, by MIME type, and what it has to know for that. Colab needs the latter."""
        bundle: Any = getattr(self, "_repr_mimebundle_")()  # noqa: B009  # anywidget types it as "dict" only
        return bundle

    def set_state(self, sync_data: object) -> None:
        """Nothing: what a page holds is its own, and what is shown is the kernel's to say."""

    def _receive(self, _widget: object, content: Any, _buffers: object) -> None:
        if isinstance(content, dict):
            self._heard(content)  # pyright: ignore[reportUnknownArgumentType]  # JSON from the page

    def _ipython_display_(self) -> None:
        self._show()
