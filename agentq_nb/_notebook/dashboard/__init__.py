"""The dashboard: a live view of the host of this kernel, as one widget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from agentq_nb._client.receipt import Receipt
    from agentq_nb._display.document import Document
    from agentq_nb._host.registry import Registry
    from agentq_nb._notebook.dashboard.patch import Sections
    from agentq_nb.agent_os import SessionInfo

    Draw: TypeAlias = Callable[[Sections, float], Sequence[Document]]


def show_receipt(receipt: Receipt[Any]) -> None:
    """Show a receipt live until its message is settled. Raises NotImplementedError where that is impossible."""
    from agentq_nb._notebook.dashboard import static_view
    from agentq_nb._notebook.dashboard.cards import OneMessage

    registry = _hosting()
    _show("message", OneMessage(registry, receipt.id), static_view.of_message, registry, receipt)


def show_session(info: SessionInfo) -> None:
    """Show a session live until it is closed. Raises NotImplementedError where that is impossible."""
    from agentq_nb._notebook.dashboard import static_view
    from agentq_nb._notebook.dashboard.cards import OneSession

    registry = _hosting()
    if info.status == "closed":
        raise NotImplementedError
    _show("session", OneSession(registry, info), static_view.of_session, registry, info)


def _show(kind: str, subject: Any, draw: Draw, registry: Registry, value: object) -> None:
    """Show a live view of ``subject``; until its state was read first, the document of ``value`` is shown."""
    from agentq_nb._display import document_of
    from agentq_nb._notebook.dashboard.view import Live

    def drawn(sections: Sections, at: float) -> Sequence[Document]:
        document = document_of(value)
        return draw(sections, at) or ([] if document is None else [document])

    Live(kind, subject, drawn, registry).show()


def _hosting() -> Registry:
    """Return the running registry. Raises NotImplementedError, after which IPython uses the plain formatters."""
    from agentq_nb._host.registry import current_registry
    from agentq_nb._notebook.dashboard.open_views import room

    registry = current_registry()
    if registry is None or not registry.running or not room() or not _may_have_page():
        raise NotImplementedError
    return registry


def _may_have_page() -> bool:
    """Whether a front end might show widgets here, and an event loop runs that keeps them up to date."""
    from agentq_nb._core.programs import in_terminal

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return not in_terminal()


def dashboard() -> Any:
    """Return a live view of this kernel's host, with buttons: queues, sessions, permission requests and messages.

    It is an ``anywidget``: show it at the end of a cell, or put it into an ``ipywidgets.VBox``. Create it in a cell,
    after the host was started; it ends with the host, and leaves a static view of its last state in the notebook.
    Raises ``NoHost``, and ``NoPage`` where no front end can show widgets.
    """
    from agentq_nb._core.clock import SystemClock
    from agentq_nb._host.registry import current_registry
    from agentq_nb._notebook.dashboard import static_view
    from agentq_nb._notebook.dashboard.overview import Overview
    from agentq_nb._notebook.dashboard.view import Live
    from agentq_nb.errors import NoHost, NoPage

    registry = current_registry()
    if registry is None or not registry.running:
        raise NoHost()
    if not _may_have_page():
        raise NoPage()
    clock = SystemClock()
    return Live("dashboard", Overview(registry, clock), static_view.of_dashboard, registry, clock).widget
