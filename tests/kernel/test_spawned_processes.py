"""A kernel that is killed leaves no process that it spawned, under any isolation."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentq_nb.agent_os.values import IsolationKind
from tests.kernel.driving import Kernel
from tests.unit.agent_os.needs import need
from tests.unit.agent_os.test_process import family, marked, wait_for, wait_until_gone

START = """
from agentq_nb import agent_os, create_client, setup
from agentq_nb.agent_os.sandbox import isolation

isolation._tried.update({{name: "" if name == {kind!r} else "not in this test" for name in ("bubblewrap", "landlock")}})
registry = setup(use={{"vm": agent_os()}}, store="nb.agentq.duckdb")
await registry.start()
vm = create_client().vm.get_or_create(["a"])
assert (await vm.isolation()).kind == {kind!r}
"""


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock", "none"])
def test_a_killed_kernel_leaves_nothing_it_spawned(kind: IsolationKind, tmp_path: Path) -> None:
    need(kind)
    script, mark = family()
    with Kernel(tmp_path) as kernel:
        kernel.run(START.format(kind=kind)).check()
        kernel.run(f"info = await vm.spawn({script!r} + '\\nwait')").check()
        wait_for(mark, 5)
        kernel.kill()
        assert wait_until_gone(mark, 5) == []
        kernel.restart()
        kernel.run(START.format(kind=kind)).check()
        kernel.run("processes = await vm.list_processes()").check()
        assert kernel.value("processes") == []
    assert marked(mark) == []
