"""What runs in a VM gives way to the notebook, and keeps to the processes, memory and disk that it was allowed."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os, agents
from agentq_nb.agent_os.values import ExecResult, IsolationKind
from agentq_nb.errors import PromptFailed
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_only
from tests.unit.agent_os.test_process import KINDS

MB = 1_000_000
TOO_MANY = r"killed: it ran \d\d processes at once, and agent_os\(processes=20\) allows no more than that"
HOGS = """
import os, sys, time
count, size = int(sys.argv[1]), int(sys.argv[2])
for _ in range(count - 1):
    if not os.fork():
        break
held = bytearray(os.urandom(4096)) * (size // 4096)
print("held", flush=True)
time.sleep(600)
"""
PROGRAM = Path(__file__).parents[2] / "agents/stub_agent.py"
STUB = agents.acp("stub", [sys.executable, str(PROGRAM)], readable=[sys.prefix, PROGRAM.parent])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> IsolationKind:
    use_only(request.param, monkeypatch)
    return request.param


def using(folder: Path, kind: IsolationKind, use: Callable[[Machine], Any], **limits: int) -> Any:
    """What ``use`` gives of a VM that has these limits."""

    async def program() -> Any:
        mode = "off" if kind == "none" else "required"
        async with Machine(agent_os(agents=[STUB], isolation=mode, **limits), folder) as vm:
            return await use(vm)

    return asyncio.run(program())


def run(folder: Path, kind: IsolationKind, command: str, **limits: int) -> ExecResult:
    return using(folder, kind, lambda vm: vm.exec(command, timeout=60), **limits)


def test_commands_have_a_lower_priority_than_the_kernel_and_end_first_when_memory_runs_out(
    kind: IsolationKind, tmp_path: Path
) -> None:
    niceness, score = run(tmp_path, kind, "nice; cat /proc/self/oom_score_adj").stdout.split()
    assert int(niceness) == min(19, os.nice(0) + 5)
    assert int(score) == min(1000, int(Path("/proc/self/oom_score_adj").read_text()) + 500)


def test_too_many_processes_are_killed_and_the_result_says_so(kind: IsolationKind, tmp_path: Path) -> None:
    many = "for n in $(seq 30); do sleep 600 & done; wait"
    result = run(tmp_path, kind, many, processes=20)
    assert result.exit_code == 137
    assert not result.timed_out
    assert re.fullmatch(TOO_MANY + "\n", result.stderr)
    few = run(tmp_path, kind, "for n in $(seq 10); do sleep 0.5 & done; wait; echo well", processes=20)
    assert (few.exit_code, few.stdout, few.stderr) == (0, "well\n", "")


def test_memory_is_counted_over_all_processes(kind: IsolationKind, tmp_path: Path) -> None:
    async def use(vm: Machine) -> tuple[ExecResult, ExecResult]:
        await vm.write_file("hogs.py", HOGS)
        together = await vm.exec(f"python3 hogs.py 5 {60 * MB}", timeout=60)
        await vm.write_file("one.py", f"bytearray({400 * MB})")
        return together, await vm.exec("python3 one.py", timeout=60)

    together, alone = using(tmp_path, kind, use, memory=200 * MB)
    assert together.exit_code == 137
    assert together.stderr.startswith("killed: it used ")
    assert together.stderr.endswith("MB of memory, and agent_os(memory=200000000) allows 200 MB\n")
    # The system refuses it, so that what else there is goes on.
    assert alone.exit_code == 1
    assert "MemoryError" in alone.stderr


def test_the_disk_that_all_files_of_the_vm_take_is_limited(kind: IsolationKind, tmp_path: Path) -> None:
    async def use(vm: Machine) -> list[ExecResult]:
        many = "for n in $(seq 8); do head -c 4000000 /dev/zero > file-$n; done; sleep 60"
        return [
            await vm.exec(command, timeout=60)
            for command in (many, "head -c 30000000 /dev/zero > large", "ls; sleep 0.6; rm *; echo then; ls")
        ]

    together, large, removing = using(tmp_path, kind, use, disk=20 * MB)
    assert together.exit_code == 137
    says = r"killed: the files of its VM took \d\d(\.\d)? MB, and agent_os\(disk=20000000\) allows 20 MB\n"
    assert re.fullmatch(says, together.stderr)
    assert large.exit_code != 0
    # What is there already does not keep anybody from removing it.
    assert (removing.exit_code, removing.stderr) == (0, "")
    assert removing.stdout.endswith("large\nthen\n")


def test_a_prompt_whose_agent_went_beyond_a_limit_says_so(kind: IsolationKind, tmp_path: Path) -> None:
    async def use(vm: Machine) -> str:
        session = await vm.create_session("stub")
        with pytest.raises(PromptFailed) as failed:
            await vm.send_prompt(session.session_id, "crowd 40")
        assert (await vm.send_prompt(session.session_id, "count 1")).stop_reason == "end_turn"
        return failed.value.message

    said = using(tmp_path, kind, use, processes=20)
    assert re.search(TOO_MANY, said)


@pytest.mark.parametrize("limits", [{"processes": 0}, {"memory": "2GB"}, {"disk": True}, {"memory": -1}, {"disk": 0.5}])
def test_what_is_no_limit_is_refused_in_words(limits: dict[str, Any]) -> None:
    (name,) = limits
    with pytest.raises(TypeError, match=rf"^{name} is a number.* of 1 or more, such as .*, or None for no limit; not "):
        agent_os(**limits)
