"""Kernels of other versions and kinds are left as they are."""

from __future__ import annotations

from typing import Any

import pytest

from agentq_nb._notebook import output_routing
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


class Kernel:
    """As ipykernel is since version 7.4; notes the parents that are set."""

    def __init__(self) -> None:
        self._parent_ident = {"shell": b"cell"}
        self._parent = request("load")
        self.parents: list[str] = []

    async def dispatch_shell(self, msg: Any, /, subshell_id: str | None = None, *, concurrent: bool = False) -> None:
        self._parent = msg

    def get_parent(self, channel: str = "shell") -> Any:
        return self._parent

    def set_parent(self, ident: Any, parent: Any, channel: str = "shell") -> None:
        self.parents.append(parent["header"]["msg_id"])


def request(identity: str) -> dict[str, Any]:
    return {"header": {"msg_id": identity}}


@pytest.mark.anyio
async def test_the_latest_requests_that_have_ended_do_not_become_the_parent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output_routing, "_REMEMBERED", 3)
    kernel: Any = Kernel()
    ParentHeader(kernel).install()
    for cell in ("1", "2", "3"):
        await kernel.dispatch_shell(request(cell))
    await kernel.dispatch_shell(request("widget"), concurrent=True)
    for late in ("load", "1", "2", "3", "other"):
        kernel.set_parent(b"late", request(late))
    assert kernel.parents == ["load", "widget", "widget", "widget", "other"]
