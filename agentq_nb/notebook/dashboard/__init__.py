"""The dashboard: a live view of the host of this kernel, as one widget."""

from __future__ import annotations

from typing import Any


def dashboard() -> Any:
    """A live view of this kernel's host: queues, sessions, what agents ask, and messages, with buttons to act on them.

    It is an ``anywidget``: show it at the end of a cell, or put it into an ``ipywidgets.VBox``. It is to be made in a cell,
    once the host has been started; it ends with the host, and leaves a picture of its last state in the notebook.
    Raises ``NoHost``.
    """
    from agentq_nb.clock import SystemClock
    from agentq_nb.errors import NoHost
    from agentq_nb.notebook.dashboard import picture
    from agentq_nb.notebook.dashboard.live import Live
    from agentq_nb.notebook.dashboard.overview import Overview
    from agentq_nb.registry import current_registry

    registry = current_registry()
    if registry is None or not registry.running:
        raise NoHost()
    clock = SystemClock()
    return Live("dashboard", Overview(registry, clock), picture.of_dashboard, registry, clock).widget
