"""What ``%load_ext agentq_nb`` puts into the shell, and takes out again. It prints nothing and starts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentq_nb.notebook import forms
from agentq_nb.notebook.completing import Completion
from agentq_nb.notebook.dashboard.shown import settle_all
from agentq_nb.notebook.deploying import Deployments
from agentq_nb.notebook.kernel_scene import KernelScene
from agentq_nb.notebook.magics import Magics
from agentq_nb.notebook.parents import Parents
from agentq_nb.notebook.waiting import Rewriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq_nb.notebook.shell import Shell

_loaded: dict[int, _Extension] = {}
"""By the shell's identity: a shell lives as long as its process."""


def load(shell: Shell) -> None:
    """Install everything; loading again changes nothing."""
    if id(shell) not in _loaded:
        _loaded[id(shell)] = _Extension(shell)
        _loaded[id(shell)].install()


def unload(shell: Shell) -> None:
    """Remove everything; a host that runs goes on."""
    extension = _loaded.pop(id(shell), None)
    if extension is not None:
        extension.remove()


class _Extension:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._rewriter = Rewriter(shell)
        self._deployments = Deployments(shell.user_ns)
        scene = KernelScene(shell, self._deployments)
        self._magics = Magics(shell, scene)
        self._completion = Completion(shell, scene)
        self._parents = Parents(getattr(shell, "kernel", None))
        self._events: list[tuple[str, Callable[..., Any]]] = [
            ("pre_run_cell", self._rewriter.cell_begins),
            ("post_run_cell", self._rewriter.cell_ends),
            ("pre_run_cell", self._deployments.cell_begins),
            ("post_run_cell", self._deployments.cell_ends),
        ]

    def install(self) -> None:
        self._magics.install()
        self._shell.input_transformers_post.append(self._rewriter)
        for event, call in self._events:
            self._shell.events.register(event, call)
        self._completion.install()
        forms.install(self._shell)
        self._parents.install()

    def remove(self) -> None:
        self._magics.remove()
        if self._rewriter in self._shell.input_transformers_post:
            self._shell.input_transformers_post.remove(self._rewriter)
        for event, call in self._events:
            self._shell.events.unregister(event, call)
        self._completion.remove()
        forms.remove(self._shell)
        self._parents.remove()
        settle_all()
