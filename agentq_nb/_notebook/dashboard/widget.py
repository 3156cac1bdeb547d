"""The Jupyter widget of all live views: two traits, one JavaScript module and one style sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent


_ROUTE = "_reply_subshell_for"


def _as_addressed(_data: object, subshell: str | None) -> str | None:
    """Return the subshell to which the page has sent the message."""
    return subshell


class LiveWidget(anywidget.AnyWidget):
    """A view updated by messages of :mod:`agentq_nb._notebook.dashboard.sync`; all other state is in the page.

    ``kind`` is the kind of view. The kernel never sends ``saved``: the page keeps its last state there, for front ends
    that save widgets with the notebook.
    """

    # As text, read once: a path would be watched by a thread for each widget.
    _esm = (_HERE / "static" / "dashboard.js").read_text(encoding="utf-8")
    _css = (_HERE / "dashboard.css").read_text(encoding="utf-8")
    kind = traitlets.Unicode().tag(sync=True)
    saved = traitlets.Dict().tag(sync=True)

    def __init__(self, kind: str, heard: Callable[[dict[str, Any]], None], show: Callable[[], None]) -> None:
        super().__init__(kind=kind)
        self._heard = heard
        self._show = show
        self.identity: str = self.model_id
        # Since version 7.4, ipykernel passes a page's messages to the subshell that seemed to be active when the widget
        # last sent one, and drops them once that is gone. It often is after a reload: no message arrived any more.
        setattr(self.comm, _ROUTE, _as_addressed)
        self.on_msg(self._receive)  # pyright: ignore[reportUnknownMemberType]  # ipywidgets has no types

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message to every page that shows the widget."""
        self.send(message)  # pyright: ignore[reportUnknownMemberType]  # ipywidgets has no types

    def view(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the data from which a front end draws the widget, by MIME type, and metadata, which Colab needs."""
        bundle: Any = getattr(self, "_repr_mimebundle_")()  # noqa: B009  # anywidget types it as "dict" only
        return bundle

    def set_state(self, sync_data: object) -> None:
        """Ignore state from pages: theirs is their own, and the kernel decides what is shown."""

    def _receive(self, _widget: object, content: Any, _buffers: object) -> None:
        if isinstance(content, dict):
            self._heard(content)  # pyright: ignore[reportUnknownArgumentType]  # JSON from the page

    def _ipython_display_(self) -> None:
        self._show()
