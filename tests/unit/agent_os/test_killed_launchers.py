"""A launcher that is killed, alone or with the kernel: what it watched over is found by a mark, and ended."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentq_nb.agent_os import agent_os
from agentq_nb.agent_os.sandbox import orphans, process
from agentq_nb.agent_os.sandbox.open_process import open_process
from agentq_nb.agent_os.values import IsolationKind
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_only
from tests.unit.agent_os.test_process import KINDS, family, job, marked, wait_for_family, wait_until_gone

SOON = 30  # seconds, for what would otherwise never end


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> IsolationKind:
    use_only(request.param, monkeypatch)
    return request.param


def launchers(of: int) -> list[int]:
    """The launchers that a process has started."""
    children = Path(f"/proc/{of}/task").glob("*/children")
    found = [int(word) for file in children for word in file.read_text().split()]
    return [number for number in found if b"launcher.py" in Path(f"/proc/{number}/cmdline").read_bytes()]


async def kill_launcher(mark: str) -> None:
    await asyncio.to_thread(wait_for_family, mark)
    (launcher,) = launchers(os.getpid())
    os.kill(launcher, signal.SIGKILL)


def test_a_killed_launcher_ends_the_command_and_leaves_nothing(kind: IsolationKind, tmp_path: Path) -> None:
    script, mark = family()

    async def program() -> int:
        running = asyncio.create_task(process.run(job(kind, tmp_path, f"{script}\nwait")))
        await kill_launcher(mark)
        return (await asyncio.wait_for(running, SOON)).exit_code

    assert asyncio.run(program()) == 128 + signal.SIGKILL
    assert marked(mark) == []


def test_an_agent_whose_launcher_is_killed_has_ended(kind: IsolationKind, tmp_path: Path) -> None:
    script, mark = family()

    async def program() -> int | None:
        agent = await open_process(job(kind, tmp_path, f"{script}\nwait"))
        await kill_launcher(mark)
        assert await asyncio.wait_for(agent.output.read(), SOON) == b""
        assert marked(mark) == []
        await agent.aclose()
        return agent.exit_code

    assert asyncio.run(program()) == 128 + signal.SIGKILL


KERNEL = """
import asyncio, json, sys
from pathlib import Path
from agentq_nb.agent_os.sandbox import isolation, process
kind, root, scripts = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
async def program():
    jobs = [isolation.job(kind, root, (), ["/bin/sh", "-c", script], {}) for script in scripts]
    await asyncio.gather(*map(process.run, jobs))
asyncio.run(program())
"""


def kernel(kind: IsolationKind, root: Path, *scripts: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", KERNEL, kind, str(root), json.dumps([f"{script}\nwait" for script in scripts])]
    return subprocess.Popen(words)


def test_after_the_kernel_and_its_launcher_were_killed_the_next_one_ends_what_was_left(
    kind: IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, mark = family()
    other_script, other_mark = family()
    with kernel(kind, tmp_path, script) as dead, kernel(kind, tmp_path, other_script) as alive:
        wait_for_family(mark)
        wait_for_family(other_mark)
        for number in (*launchers(dead.pid), dead.pid):
            os.kill(number, signal.SIGKILL)
        dead.wait()
        if kind == "bubblewrap":  # Linux ends those with the namespace that they lived in
            assert wait_until_gone(mark, 5) == []
        else:
            assert marked(mark)

        async def program() -> None:
            async with Machine(agent_os(), tmp_path) as vm:
                await vm.exec("true")

        monkeypatch.setattr(orphans, "_looked", False)
        asyncio.run(program())
        assert marked(mark) == []
        assert len(marked(other_mark)) >= 5, "those of a kernel that lives are not touched"
        alive.terminate()
    assert wait_until_gone(other_mark, 10) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda of: of.replace(orphans._namespace(), "pid:[1]"),
        lambda of: "rubbish",
        lambda of: re.sub(r"/\d+/", "/x/", of, count=1),
        lambda of: of.rpartition("/")[0],
        lambda of: "",
    ],
)
def test_what_is_not_known_to_be_left_by_a_dead_kernel_is_not_touched(change: Callable[[str], str]) -> None:
    dead = subprocess.Popen(["true"])
    started = orphans._started(dead.pid)
    dead.wait()
    of_dead = f"{orphans._namespace()}/{dead.pid}/{started}/0"
    command = ["sleep", "600"]
    with subprocess.Popen(command, env={orphans.VARIABLE: change(of_dead)}) as bystander:
        with subprocess.Popen(command, env={orphans.VARIABLE: of_dead}) as left:
            until = time.monotonic() + SOON
            while orphans.mark_in(left.pid) != of_dead:
                assert time.monotonic() < until
            orphans.end_those_of_dead_kernels()
            assert left.wait(SOON) == -signal.SIGKILL
        assert bystander.poll() is None
        bystander.kill()


def test_nobody_can_take_the_mark_off_by_giving_a_variable(tmp_path: Path) -> None:
    given: dict[str, Any] = job("none", tmp_path, "true", **{orphans.VARIABLE: "mine"})["environment"]
    assert given[orphans.VARIABLE].startswith(orphans._namespace())
