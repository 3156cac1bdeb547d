"""However a kernel ends while real agents work: no process of theirs lives on, and no folder is left behind."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from agentq_nb import agents
from agentq_nb.agent_os.values import IsolationKind
from tests.agents.fake_llm import serving
from tests.agents.real_agents import need_agent
from tests.agents.running import marked, new_mark
from tests.kernel.driving import Kernel
from tests.unit.agent_os.needs import need

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="that no process outlives its kernel is kept on Linux")

PROMISED = 5
"""Seconds until all are gone."""

START = """
import asyncio, types
from agentq_nb import agent_os, agents, create_client, setup
from agentq_nb.agent_os.sandbox import isolation
from tests.agents.real_agents import configure

if {kind!r} == "landlock":
    isolation._tried["bubblewrap"] = "not in this test"
mode = "off" if {kind!r} == "none" else "required"
registry = setup(use={{"vm": agent_os(agents=[agents.pi, agents.claude, agents.codex], isolation=mode, hosts=[{url!r}])}})
await registry.start()
vm = create_client().vm.get_or_create("v")
assert (await vm.isolation()).kind == {kind!r}
await configure(vm, types.SimpleNamespace(url={url!r}))
env = {{"ANTHROPIC_API_KEY": "sk-not-a-key", "OPENAI_API_KEY": "sk-not-a-key", **{mark!r}}}
sessions = await asyncio.gather(*(vm.create_session(name, env=env) for name in ("pi", "claude", "codex")))
prompts = {prompts!r}
at_work = [asyncio.create_task(vm.send_prompt(s.session_id, p)) for s, p in zip(sessions, prompts)]
"""

TEXTS = "[e.text for e in await vm.session_events(sessions[1].session_id) if e.type == 'text']"
SURVIVOR = "(trap '' TERM; setsid sleep {number}) & sleep {number}"


def family(pid: int) -> dict[int, str]:
    """Everything that a process has started, and what those have: process id → when it was started."""
    parents: dict[int, list[int]] = {}
    started: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The name in parentheses may hold anything, so the fields are counted from its end.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
            started[int(folder.name)] = fields[19]
    found = [pid]
    for process in found:
        found += parents.get(process, [])
    return {process: started[process] for process in found[1:]}


def alive(processes: dict[int, str]) -> list[str]:
    """The command lines of those that still run; a zombie does not."""
    found: list[str] = []
    for process, started in processes.items():
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            if fields[19] == started and fields[0] != "Z":
                found.append(Path(f"/proc/{process}/cmdline").read_text().replace("\0", " "))
    return found


def sleeping(number: str) -> int:
    """How many commands of this number run."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            count += path.read_bytes() == f"sleep\0{number}\0".encode()
    return count


def end(kernel: Kernel, way: str) -> None:
    if way == "kill -9":
        kernel.kill()
    elif way == "restart":
        kernel.restart()
    else:
        if way == "SIGTERM":
            os.kill(kernel.pid, signal.SIGTERM)
        else:
            kernel.submit("import os; os._exit(1)")
        deadline = time.monotonic() + 30
        while kernel.alive:
            assert time.monotonic() < deadline, f"the kernel survived {way}"
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        ("kill -9", "bubblewrap"),
        ("kill -9", "landlock"),
        ("kill -9", "none"),
        ("SIGTERM", "bubblewrap"),
        ("os._exit", "landlock"),
        ("restart", "none"),
    ],
)
def test_no_agent_outlives_its_kernel(way: str, kind: IsolationKind, tmp_path: Path) -> None:
    need(kind)
    for agent in (agents.pi, agents.claude, agents.codex):
        need_agent(agent)
    mark = new_mark()
    number = f"97{secrets.randbelow(10**9):09d}"
    run = f"@run {SURVIVOR.format(number=number)}"
    prompts = [run, "@slow 1\n@say begin " + "and " * 300, run]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with serving() as model, Kernel(tmp_path, {"TMPDIR": str(temporary)}) as kernel:
        kernel.run(START.format(kind=kind, url=model.url, mark=mark, prompts=prompts), timeout=120).check()
        deadline = time.monotonic() + 60
        while sleeping(number) < 4 or "begin " not in kernel.value(TEXTS):
            assert time.monotonic() < deadline, "the agents did not get to work"
        started = family(kernel.pid)
        assert all(any(name in line for line in alive(started)) for name in ("claude", "codex-acp"))

        def left() -> list[str]:
            # Not all who were started still have the mark: a program may write over its environment.
            folders = [path.name for path in temporary.iterdir() if path.name.startswith("agentq")]
            return [*alive(started), *map(str, marked(mark)), *["sleep"] * sleeping(number), *folders]

        end(kernel, way)
        deadline = time.monotonic() + PROMISED
        while left() and time.monotonic() < deadline:
            time.sleep(0.05)
        print(f"{way}, {kind}: {len(started)} processes gone {time.monotonic() - deadline + PROMISED:.1f} s later")
        assert left() == []
