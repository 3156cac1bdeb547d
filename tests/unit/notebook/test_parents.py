"""Kernels of other versions and kinds are left as they are."""

from __future__ import annotations

from typing import Any

import pytest

from agentq_nb._notebook.output_routing import ParentHeader


class KernelOfBefore:
    """As ipykernel was up to version 7.3: it answers no widget while a cell awaits."""

    async def dispatch_shell(self, msg: Any, /, subshell_id: str | None = None) -> None: ...

    def set_parent(self, ident: Any, parent: Any, channel: str = "shell") -> None: ...


@pytest.mark.parametrize("kernel", [KernelOfBefore(), object(), None], ids=["an older one", "another kind", "none"])
def test_a_kernel_without_the_trouble_stays_as_it_is(kernel: Any) -> None:
    parents = ParentHeader(kernel)
    parents.install()
    assert not getattr(kernel, "__dict__", {})
    parents.remove()
    assert not getattr(kernel, "__dict__", {})
