"""Install everything that ``%load_ext agentq_nb`` adds to the shell, and remove it. Prints and starts nothing."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from agentq_nb._core.package_versions import RestartNeeded, check_loaded
from agentq_nb._notebook import formatters
from agentq_nb._notebook.alerts import Alerts
from agentq_nb._notebook.cell_await import Rewriter
from agentq_nb._notebook.completion import Completion
from agentq_nb._notebook.dashboard.open_views import leave_all, settle_all
from agentq_nb._notebook.deploy_classes import Deployments
from agentq_nb._notebook.forgotten_awaits import ForgottenAwaits
from agentq_nb._notebook.ipython_types import has_reader, kernel_of
from agentq_nb._notebook.kernel_context import KernelContext
from agentq_nb._notebook.magics import Magics
from agentq_nb._notebook.output_routing import ParentHeader
from agentq_nb._notebook.tracebacks import Tracebacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq_nb._notebook.ipython_types import CellResult, Shell

_loaded: dict[int, _Extension] = {}
"""By the shell's ``id()``, which is unique because a shell exists as long as its process."""


def load(shell: Shell) -> None:
    """Install everything or nothing; loading again changes nothing. Prints a line if the kernel must be restarted."""
    if id(shell) not in _loaded:
        extension = _Extension(shell)
        extension.install()
        _loaded[id(shell)] = extension
        try:
            check_loaded()
        except RestartNeeded as error:  # only printed, so that `%agentq doctor` works; starting a host raises it
            print(error, file=sys.stderr)


def unload(shell: Shell) -> None:
    """Remove everything; a running host goes on."""
    extension = _loaded.pop(id(shell), None)
    if extension is not None:
        extension.remove()


class _Extension:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._rewriter = Rewriter(shell)
        self._deployments = Deployments(shell.user_ns)
        self._alerts = Alerts(shell)
        self._forgotten_awaits = ForgottenAwaits(shell)
        context = KernelContext(shell, self._deployments, self._alerts)
        self._magics = Magics(shell, context)
        self._completion = Completion(shell, context)
        self._parents = ParentHeader(kernel_of(shell))
        self._tracebacks = Tracebacks(shell)
        self._events: list[tuple[str, Callable[..., Any]]] = [
            ("pre_run_cell", self._rewriter.cell_begins),
            ("post_run_cell", self._rewriter.cell_ends),
            ("pre_run_cell", self._deployments.cell_begins),
            ("post_run_cell", self._deployments.cell_ends),
            ("pre_run_cell", self._forgotten_awaits.cell_begins),
            ("post_run_cell", self._forgotten_awaits.cell_ends),
            ("pre_run_cell", self._alerts.cell_begins),
            ("post_run_cell", self._alerts.cell_ends),
            ("post_run_cell", self._leave_views),
        ]

    def install(self) -> None:
        """Install all parts; if one fails, remove those installed before it."""
        with ExitStack() as undo:
            undo.callback(self._magics.remove)
            self._magics.install()
            undo.callback(self._remove_rewriter)
            self._shell.input_transformers_post.append(self._rewriter)
            for event, call in self._events:
                self._shell.events.register(event, call)
                undo.callback(self._shell.events.unregister, event, call)
            self._deployments.install()
            undo.callback(self._deployments.remove)
            self._forgotten_awaits.install()
            undo.callback(self._forgotten_awaits.remove)
            self._alerts.install()
            undo.callback(self._alerts.remove)
            self._completion.install()
            undo.callback(self._completion.remove)
            undo.callback(formatters.remove, self._shell)
            formatters.install(self._shell)
            self._parents.install()
            undo.callback(self._parents.remove)
            undo.callback(self._tracebacks.remove)
            self._tracebacks.install()
            self._undo = undo.pop_all()

    def remove(self) -> None:
        self._undo.close()
        settle_all()

    def _leave_views(self, result: CellResult | None = None) -> None:
        if not has_reader(self._shell):
            leave_all()

    def _remove_rewriter(self) -> None:
        if self._rewriter in self._shell.input_transformers_post:
            self._shell.input_transformers_post.remove(self._rewriter)
