"""Processes that run on: what they write and how they end is told, kept within bounds, and nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from agentq_nb.agent_os import ProcessInfo, ProcessOutput, agent_os, agents
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.agent_os.sandbox import output
from agentq_nb.agent_os.sandbox.process import LARGEST_OUTPUT, Execution
from agentq_nb.agent_os.sandbox.processes import MOST_ENDED
from agentq_nb.agent_os.values import IsolationKind
from agentq_nb.errors import ProcessUnknown, ValidationFailed, WorkspaceError
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.test_process import family, marked, wait_for_family
from tests.unit.runtime.world import until

SECRET = "sk-ant-0123456789abcdef"


class Heard:
    """What a VM tells of its processes, in the order in which it tells it."""

    def __init__(self, vm: Machine) -> None:
        self.all: list[ProcessOutput | ProcessInfo] = []
        self._changed = asyncio.Event()
        for event in ("process_output", "process_exit"):
            vm.registry.host.listen(vm.actor_id, event, self._hear)

    def _hear(self, told: Any) -> None:
        self.all.append(told)
        self._changed.set()

    def text(self, process_id: str, stream: str = "stdout") -> str:
        pieces = [told for told in self.all if isinstance(told, ProcessOutput) and told.process_id == process_id]
        return "".join(piece.text for piece in pieces if piece.stream == stream)

    def exits(self) -> list[ProcessInfo]:
        return [told for told in self.all if isinstance(told, ProcessInfo)]

    async def until(self, condition: Callable[[], Any]) -> None:
        with anyio.fail_after(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def vm(tmp_path: Path) -> AsyncIterator[Machine]:
    async with Machine(agent_os(), tmp_path) as machine:
        yield machine


@pytest.mark.anyio
async def test_a_spawned_command_runs_on_and_its_output_and_end_are_told(kind: IsolationKind, vm: Machine) -> None:
    heard = Heard(vm)
    await vm.write_file("src/server.sh", "echo $NAME; echo careful >&2; until test -e go; do sleep 0.02; done; exit 3")
    started = await vm.spawn(["sh", "server.sh"], cwd="src", env={"NAME": "a name"}, public_env=["NAME"])
    assert (started.status, started.exit_code, started.command) == ("running", None, "sh server.sh")
    await heard.until(lambda: heard.text(started.process_id) and heard.text(started.process_id, "stderr"))
    assert await vm.list_processes() == [started]
    so_far = await vm.process_output(started.process_id)
    assert (so_far.stdout, so_far.stderr, so_far.truncated) == ("a name\n", "careful\n", False)
    await vm.write_file("src/go", "")
    await heard.until(heard.exits)
    ended = heard.exits()[0]
    assert (ended.process_id, ended.status, ended.exit_code) == (started.process_id, "ended", 3)
    assert ended.ended_at > started.started_at  # type: ignore[operator]
    assert await vm.list_processes() == [ended]
    assert heard.all[-1] == ended
    assert heard.text(started.process_id) == "a name\n"
    assert (await vm.process_output(started.process_id)).stdout == "a name\n"


@pytest.mark.anyio
async def test_killing_ends_the_whole_family_even_if_it_is_deaf_and_can_be_repeated(
    kind: IsolationKind, vm: Machine
) -> None:
    script, mark = family()
    started = await vm.spawn(f"{script}\nwhile :; do sleep 0.1; done")
    await asyncio.to_thread(wait_for_family, mark)
    first, second = await asyncio.gather(vm.kill(started.process_id), vm.kill(started.process_id))
    assert first == second == await vm.kill(started.process_id)
    assert (first.status, first.exit_code) == ("ended", 128 + signal.SIGKILL)
    assert marked(mark) == []


@pytest.mark.anyio
async def test_killing_asks_first(kind: IsolationKind, vm: Machine) -> None:
    heard = Heard(vm)
    started = await vm.spawn("trap 'echo cleaned; exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    await heard.until(lambda: heard.text(started.process_id) == "ready\n")
    assert (await vm.kill(started.process_id)).exit_code == 9
    assert heard.text(started.process_id) == "ready\ncleaned\n"


@pytest.mark.anyio
async def test_an_exec_tells_its_output_and_can_be_listed_and_killed_while_it_runs(vm: Machine) -> None:
    heard = Heard(vm)
    running = asyncio.create_task(vm.exec("echo begun; echo odd >&2; sleep 600"))
    await heard.until(lambda: len(heard.all) == 2)
    (listed,) = await vm.list_processes()
    assert (listed.command, listed.status) == ("echo begun; echo odd >&2; sleep 600", "running")
    killed = await vm.kill(listed.process_id)
    result = await running
    assert (result.exit_code, result.stdout, result.stderr, result.timed_out) == (143, "begun\n", "odd\n", False)
    assert (heard.text(listed.process_id), heard.text(listed.process_id, "stderr")) == ("begun\n", "odd\n")
    assert heard.exits() == [killed]
    assert killed.exit_code == 143
    assert await vm.list_processes() == []
    with pytest.raises(ProcessUnknown):
        await vm.process_output(listed.process_id)


@pytest.mark.anyio
async def test_the_end_of_an_exec_that_took_too_long_is_told_too(vm: Machine) -> None:
    heard = Heard(vm)
    result = await vm.exec("sleep 600", timeout=0.1)
    assert result.timed_out
    assert [info.exit_code for info in heard.exits()] == [result.exit_code]
    assert await vm.list_processes() == []


@pytest.mark.anyio
async def test_what_an_agent_runs_is_told_of_as_well(tmp_path: Path) -> None:
    async def works(session: AgentSession, prompt: str) -> str:
        return (await session.exec(prompt)).stdout

    async with Machine(agent_os(agents=[agents.function(works)]), tmp_path) as vm:
        heard = Heard(vm)
        session = await vm.create_session("works")
        assert (await vm.send_prompt(session.session_id, "echo working")).text == "working\n"
        assert heard.text(heard.exits()[0].process_id) == "working\n"


@pytest.mark.anyio
async def test_unknown_processes_and_bad_arguments_are_clear_errors(vm: Machine) -> None:
    for action in (vm.kill, vm.process_output):
        for unknown in ("", "no-such", "x" * 5000, "\ud800"):
            with pytest.raises(ProcessUnknown, match="list_processes"):
                await action(unknown)
        with pytest.raises(ValidationFailed):
            await action(5)
    for command in ([], [""], "a\0b", 5, None):
        with pytest.raises(ValidationFailed):
            await vm.spawn(command)
    with pytest.raises(ValidationFailed):
        await vm.spawn("true", env={"A=B": "c"})
    with pytest.raises(WorkspaceError):
        await vm.spawn("true", cwd="../..")
    assert await vm.list_processes() == []


@pytest.mark.anyio
async def test_a_program_that_is_not_there_ends_with_127_and_says_why(kind: IsolationKind, vm: Machine) -> None:
    heard = Heard(vm)
    started = await vm.spawn(["no-such-program"])
    await heard.until(heard.exits)
    assert heard.exits()[0].exit_code == 127
    assert "no-such-program" in (await vm.process_output(started.process_id)).stderr


@pytest.mark.anyio
async def test_the_last_ended_ones_are_known_and_no_more_of_them(vm: Machine) -> None:
    heard = Heard(vm)
    running = await vm.spawn("sleep 600")
    spawned: list[ProcessInfo] = []
    for number in range(MOST_ENDED + 3):
        spawned.append(await vm.spawn(f"echo {number}"))
        await heard.until(lambda: len(heard.exits()) == len(spawned))
    listed = await vm.list_processes()
    assert listed[0] == running
    assert [info.process_id for info in listed[1:]] == [info.process_id for info in spawned[3:]]
    with pytest.raises(ProcessUnknown):
        await vm.kill(spawned[0].process_id)
    assert (await vm.process_output(spawned[-1].process_id)).stdout == f"{MOST_ENDED + 2}\n"


@pytest.mark.anyio
async def test_bytes_that_are_no_text_and_lines_without_end_do_no_harm(kind: IsolationKind, vm: Machine) -> None:
    heard = Heard(vm)
    hostile = (
        "printf 'a\\377\\000\\033[31m\\303'; printf '\\251'; head -c 1000000 /dev/zero | tr '\\0' x; printf '\\303'"
    )
    started = await vm.spawn(hostile)
    await heard.until(heard.exits)
    whole = await vm.process_output(started.process_id)
    assert whole.stdout.startswith("a\ufffd\0\x1b[31mé" + "x" * 400_000)
    assert whole.stdout.endswith("x\ufffd")
    assert whole.truncated
    told = heard.text(started.process_id)
    assert told.startswith("a\ufffd\0\x1b[31méx")
    assert told.endswith("x\ufffd")
    assert "characters left out" in told


@pytest.mark.anyio
async def test_endless_output_makes_few_and_small_events_and_keeps_its_two_ends(
    vm: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard(vm)
    started = await vm.spawn("echo first; yes & yes >&2")
    begun = asyncio.get_running_loop().time()
    await heard.until(lambda: len(heard.all) >= 20)
    seconds = asyncio.get_running_loop().time() - begun
    pieces = [told for told in heard.all if isinstance(told, ProcessOutput)]
    assert len(pieces) <= 2 * (seconds / output._PAUSE + 2)
    assert max(len(piece.text) for piece in pieces) <= output._LARGEST + 100
    assert any("characters left out" in piece.text for piece in pieces)
    assert (await vm.exec("echo still responsive")).stdout == "still responsive\n"
    await vm.kill(started.process_id)
    whole = await vm.process_output(started.process_id)
    assert whole.truncated
    assert whole.stdout.startswith("first\ny\n")
    assert max(len(whole.stdout), len(whole.stderr)) < LARGEST_OUTPUT + 100


@pytest.mark.anyio
async def test_secrets_are_taken_out_also_where_they_come_in_pieces(vm: Machine) -> None:
    heard = Heard(vm)
    cut = "".join(f"printf %s '{piece}'; sleep 0.3; " for piece in (SECRET[:7], SECRET[7:15], SECRET[15:]))
    started = await vm.spawn(f"{cut} echo; echo $KEY >&2; echo $OPEN", env={"KEY": SECRET, "OPEN": "not a secret"})
    other = await vm.spawn(["echo", SECRET])
    again = await vm.spawn(f"echo {SECRET}", public_env=["KEY"], env={"KEY": SECRET})
    await heard.until(lambda: len(heard.exits()) == 3)
    assert heard.text(started.process_id) == "[redacted KEY]\n[redacted OPEN]\n"
    assert heard.text(started.process_id, "stderr") == "[redacted KEY]\n"
    assert other.command == "echo '[redacted KEY]'"
    assert again.command == "echo [redacted KEY]"
    known = [await vm.process_output(info.process_id) for info in await vm.list_processes()]
    assert SECRET not in repr([heard.all, known, await vm.list_processes()])


@pytest.mark.anyio
async def test_what_is_named_a_secret_later_is_taken_out_of_what_was_kept(vm: Machine) -> None:
    heard = Heard(vm)
    started = await vm.spawn(f"echo {SECRET}")
    await heard.until(heard.exits)
    await vm.exec("true", env={"KEY": SECRET})
    assert (await vm.process_output(started.process_id)).stdout == "[redacted KEY]\n"


@pytest.mark.anyio
async def test_a_vm_does_not_sleep_while_a_spawned_process_runs_and_sleeps_afterwards(tmp_path: Path) -> None:
    asleep = asyncio.Event()

    class Sleepy(agent_os(), sleep_timeout=0.05):  # type: ignore[misc]
        async def on_sleep(self) -> None:
            asleep.set()

    async with Machine(Sleepy, tmp_path) as vm:
        await asyncio.wait_for(asleep.wait(), 30) if not await vm.list_processes() else None
        asleep.clear()
        started = await vm.spawn("until test -e go; do sleep 0.02; done")
        asleep.clear()
        await asyncio.sleep(0.4)
        assert not asleep.is_set()
        assert (await vm.list_processes()) == [started]
        await vm.write_file("go", "")
        await asyncio.wait_for(asleep.wait(), 30)
        assert await vm.list_processes() == []  # those of the time since it woke


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["sleep", "deploy", "stop"])
async def test_a_vm_that_ends_ends_its_processes(way: str, kind: IsolationKind, tmp_path: Path) -> None:
    script, mark = family()
    vm = Machine(agent_os(), tmp_path)
    async with vm:
        heard = Heard(vm)
        await vm.spawn(f"{script}\nwait")
        await asyncio.to_thread(wait_for_family, mark)
        if way == "sleep":
            await vm.sleep()
        elif way == "deploy":
            await vm.registry.deploy("vm", agent_os(isolation="off"))
            await vm.activation()  # of the VM that comes
            assert await vm.list_processes() == []
        else:
            await vm.registry.stop()
        assert marked(mark) == []
        assert [info.status for info in heard.exits()] == ["ended"]


@pytest.mark.anyio
async def test_a_destroyed_vm_ends_its_processes(tmp_path: Path) -> None:
    script, mark = family()
    async with Machine(agent_os(), tmp_path) as vm:
        await vm.spawn(f"{script}\nwait")
        await asyncio.to_thread(wait_for_family, mark)
        activation = await vm.activation()
        activation.close("being destroyed")
        await activation.ended.wait()
        assert marked(mark) == []


@pytest.mark.anyio
async def test_a_launcher_that_is_killed_is_told_as_the_end_and_leaves_nothing(tmp_path: Path) -> None:
    async with Machine(agent_os(isolation="off"), tmp_path) as vm:
        heard = Heard(vm)
        await vm.spawn("echo $PPID; sleep 0.1; while :; do sleep 0.1; done")
        await heard.until(lambda: heard.all)
        launcher = int(heard.all[0].text)  # type: ignore[union-attr]
        os.kill(launcher, signal.SIGKILL)
        await heard.until(heard.exits)
        assert heard.exits()[0].exit_code == 137


@pytest.mark.anyio
async def test_fifty_at_once(tmp_path: Path) -> None:
    async with Machine(agent_os(isolation="off"), tmp_path) as vm:
        heard = Heard(vm)
        started = await asyncio.gather(*(vm.spawn(f"echo {number}; sleep 0.2") for number in range(50)))
        await heard.until(lambda: len(heard.exits()) == 50)
        assert [heard.text(info.process_id) for info in started] == [f"{number}\n" for number in range(50)]
        assert [info.exit_code for info in await vm.list_processes()] == [0] * MOST_ENDED


@pytest.mark.anyio
async def test_looking_after_a_process_that_fails_is_the_last_error_of_its_vm(
    vm: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Execution, timeout: float | None) -> None:
        raise MemoryError("no room")

    await vm.exec("true")  # finding out how to isolate runs programs too

    async def told() -> Any:
        return (await vm.registry.host.status_of(vm.actor_id)).last_error

    with monkeypatch.context() as failing:
        failing.setattr(Execution, "finish", fail)
        await vm.spawn("true")
        assert "no room" in (await until(told, 20))["traceback"]
