"""Commands from start to end: floods, time limits, cancelling, and that nothing stays behind, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import pytest

from agentq_nb.agent_os.sandbox import isolation, open_process, process
from agentq_nb.agent_os.values import ExecResult, IsolationKind
from tests.unit.agent_os.needs import need

KINDS: tuple[IsolationKind, ...] = ("none", "landlock", "bubblewrap")

FAMILY = """
sleep {seconds} &
setsid sleep {seconds} &
(setsid sh -c 'sleep {seconds} & sleep {seconds}' &)
trap '' TERM
sh -c 'trap "" TERM; while :; do sleep 0.1; done' {mark} &
"""
"""Children, grandchildren, some in sessions of their own, some deaf to SIGTERM, all with a mark to find them by."""


def job(kind: IsolationKind, root: Path, command: str, **environment: str) -> process.Job:
    return isolation.job(kind, root, (), ["/bin/sh", "-c", command], environment)


def run(kind: IsolationKind, root: Path, command: str, timeout: float | None = 30, **environment: str) -> ExecResult:
    return asyncio.run(process.run(job(kind, root, command, **environment), timeout))


def marked(mark: str) -> list[int]:
    """Processes, zombies aside, whose command line has ``mark``."""
    found: list[int] = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{name}/cmdline").read_text("utf-8", "replace"):
                found.append(int(name))
    return [number for number in found if number != os.getpid()]


def family() -> tuple[str, str]:
    """A script that starts a family, and the mark in the command lines of all its members."""
    mark = f"98{secrets.randbelow(10**9):09d}"
    return FAMILY.format(seconds=mark, mark=mark), mark


def wait_until_gone(mark: str, seconds: float) -> list[int]:
    end = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def wait_for_family(mark: str) -> None:
    """Return when all of it is there. The deaf one comes last, after the shell itself has become deaf."""
    end = time.monotonic() + 20
    while sum(mark in _arguments(number) for number in marked(mark)) < 5:
        assert time.monotonic() < end, "the family did not start"
        time.sleep(0.02)


def _arguments(number: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_text("utf-8", "replace").split("\0")
    return []


def wait_for(mark: str, at_least: int) -> None:
    end = time.monotonic() + 20
    while len(marked(mark)) < at_least:
        assert time.monotonic() < end, "the family did not start"
        time.sleep(0.02)


def wait_for_file(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which nobody else uses."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> IsolationKind:
    need(request.param)
    return request.param


def test_exit_codes_and_both_outputs_come_back(kind: IsolationKind, tmp_path: Path) -> None:
    result = run(kind, tmp_path, "echo out; echo err >&2; echo $NAME; exit 3", NAME="value")
    assert result == ExecResult(3, "out\nvalue\n", "err\n")
    assert run(kind, tmp_path, "kill -TERM $$").exit_code == 128 + signal.SIGTERM
    assert run(kind, tmp_path, "no-such-program").exit_code == 127
    assert run(kind, tmp_path, "cat; echo end").stdout == "end\n"


def test_a_flood_on_both_outputs_neither_blocks_nor_fills_memory(kind: IsolationKind, tmp_path: Path) -> None:
    result = run(
        kind,
        tmp_path,
        'python3 -c \'import sys; sys.stderr.write("first" + "e" * 3_000_000 + "last"); sys.stderr.flush()\';'
        "head -c 3000000 /dev/zero | tr '\\0' o; echo done",
    )
    assert result.exit_code == 0
    assert result.truncated
    assert result.stderr.startswith("firste")
    assert result.stderr.endswith("elast")
    assert result.stdout.endswith("odone\n")
    assert max(len(result.stdout), len(result.stderr)) < process.LARGEST_OUTPUT + 100


def test_bytes_that_are_no_text_do_no_harm(kind: IsolationKind, tmp_path: Path) -> None:
    assert run(kind, tmp_path, "printf 'a\\377\\000b'").stdout == "a\ufffd\0b"


def test_time_limit_asks_first_and_gives_what_was_printed(kind: IsolationKind, tmp_path: Path) -> None:
    result = run(
        kind, tmp_path, "trap 'echo cleaned; exit 9' TERM; echo started; while :; do sleep 0.05; done", timeout=0.7
    )
    assert result.timed_out
    assert result.stdout == "started\ncleaned\n"


def test_time_limit_ends_the_whole_family_even_if_it_is_deaf(kind: IsolationKind, tmp_path: Path) -> None:
    script, mark = family()
    result = run(kind, tmp_path, f"{script}\nwhile :; do sleep 0.1; done", timeout=0.7)
    assert result.timed_out
    assert result.exit_code > 128
    assert marked(mark) == []


def test_what_a_command_leaves_running_ends_with_it(kind: IsolationKind, tmp_path: Path) -> None:
    script, mark = family()
    assert run(kind, tmp_path, f"{script}\nexit 4").exit_code == 4
    assert marked(mark) == []


@pytest.mark.parametrize("native", [True, False])
def test_cancelling_ends_the_whole_family(kind: IsolationKind, tmp_path: Path, native: bool) -> None:
    script, mark = family()

    async def cancelled() -> None:
        prepared = job(kind, tmp_path, f"{script}\nwait")
        if native:
            task = asyncio.create_task(process.run(prepared))
            await asyncio.to_thread(wait_for, mark, 4)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(process.run, prepared)
                await asyncio.to_thread(wait_for, mark, 4)
                group.cancel_scope.cancel()

    asyncio.run(cancelled())
    assert marked(mark) == []


@pytest.mark.parametrize("native", [True, False])
def test_cancelling_at_any_moment_leaves_nothing(tmp_path: Path, temporary: Path, native: bool) -> None:
    mark = f"97{secrets.randbelow(10**9):09d}"

    async def trials() -> None:
        for trial in range(1, 40):
            running = process.run(job("none", tmp_path, f"sleep {mark}"))
            if native:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(running, trial * 0.002)
            else:
                with anyio.move_on_after(trial * 0.002):
                    await running

    asyncio.run(trials())
    assert wait_until_gone(mark, 5) == []
    assert os.listdir(temporary) == []


def test_cancelling_the_opening_of_a_process_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    mark = f"97{secrets.randbelow(10**9):09d}"

    async def trials() -> None:
        for trial in range(1, 30):
            opening = asyncio.ensure_future(open_process.open_process(job("none", tmp_path, f"sleep {mark}")))
            await asyncio.wait({opening}, timeout=trial * 0.0005)
            if opening.cancel():
                await asyncio.wait({opening})
            else:
                await opening.result().aclose()
        assert marked(mark) == []

    asyncio.run(trials())
    assert os.listdir(temporary) == []


def test_a_process_abandoned_after_the_end_of_its_loop_is_ended_without_a_word_at_its_collection(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    mark = f"97{secrets.randbelow(10**9):09d}"
    left = asyncio.run(open_process.open_process(job("none", tmp_path, f"sleep {mark}")))
    wait_for(mark, 1)
    left.abandon()
    del left
    gc.collect()
    assert said == []
    assert wait_until_gone(mark, 5) == []


KERNEL = """
import asyncio, sys
from pathlib import Path
from agentq_nb.agent_os.sandbox import isolation, process
job = isolation.job(sys.argv[1], Path(sys.argv[2]), (), ["/bin/sh", "-c", sys.argv[3]], {})
asyncio.run(process.run(job))
"""


def test_killing_the_kernel_leaves_no_process_and_no_temporary_folder(
    kind: IsolationKind, tmp_path: Path, temporary: Path
) -> None:
    script, mark = family()
    kernel = subprocess.Popen([sys.executable, "-c", KERNEL, kind, str(tmp_path), f"{script}\nwait"])
    wait_for_family(mark)
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    assert wait_until_gone(mark, 5) == []
    end = time.monotonic() + 5
    while os.listdir(temporary) and time.monotonic() < end:
        time.sleep(0.02)
    assert os.listdir(temporary) == []


def test_an_interrupt_of_the_kernel_does_not_reach_the_command(kind: IsolationKind, tmp_path: Path) -> None:
    async def interrupted() -> ExecResult:
        task = asyncio.create_task(process.run(job(kind, tmp_path, "touch on; sleep 0.5; echo whole")))
        await asyncio.to_thread(wait_for_file, tmp_path / "on")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            os.killpg(os.getpgid(0), signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return await task

    own = os.getpgid(0)
    if own != os.getpid():
        os.setpgid(0, 0)
    try:
        assert asyncio.run(interrupted()).stdout == "whole\n"
    finally:
        if own != os.getpid():
            os.setpgid(0, own)


def test_the_command_and_its_environment_are_in_no_command_line(kind: IsolationKind, tmp_path: Path) -> None:
    """Process lists are for everyone to read: secrets given in env must not be in them."""
    secret = secrets.token_hex(16)

    async def looked() -> list[int]:
        task = asyncio.create_task(process.run(job(kind, tmp_path, "touch on; sleep 0.3; test $KEY", KEY=secret)))
        await asyncio.to_thread(wait_for_file, tmp_path / "on")
        found = marked(secret)
        assert (await task).exit_code == 0
        return found

    assert asyncio.run(looked()) == []


def test_side_by_side(kind: IsolationKind, tmp_path: Path) -> None:
    async def many() -> list[ExecResult]:
        return await asyncio.gather(*(process.run(job(kind, tmp_path, f"echo {n}")) for n in range(20)))

    assert [result.stdout for result in asyncio.run(many())] == [f"{n}\n" for n in range(20)]
