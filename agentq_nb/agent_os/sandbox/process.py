"""Run one command: keep its output within bounds, and end all it started when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import anyio
from anyio.abc import ByteReceiveStream, Process

from agentq_nb.agent_os.sandbox import orphans
from agentq_nb.agent_os.sandbox.launcher import remove_tree
from agentq_nb.agent_os.sandbox.output import Output
from agentq_nb.agent_os.values import ExecResult

Started = TypeVar("Started")


class Bubblewrap(TypedDict):
    """How to call bubblewrap."""

    program: str
    options: list[str]


class Landlock(TypedDict):
    """The paths that may be written, and those that may be read."""

    write: list[str]
    read: list[str]
    ports: list[int] | None
    """The ports to which it may connect; None: all, and not by TCP only."""


class Limits(TypedDict):
    """What all processes of a job may use together; None means no limit."""

    processes: int | None
    memory: int | None
    """Bytes."""
    disk: int | None
    """Bytes of the files in ``folders``."""
    folders: list[str]


class Job(TypedDict):
    """The job that ``launcher.py`` reads."""

    command: list[str]
    environment: dict[str, str]
    directory: str
    temporary: str | None
    """A folder that is removed when the command ends."""
    bubblewrap: Bubblewrap | None
    landlock: Landlock | None
    limits: Limits | None
    network: tuple[int, int] | None
    """Inherited file descriptors of the user and network namespaces to enter; None: stay in those of this process."""
    input: int | None
    """An inherited file descriptor that becomes the command's stdin; None gives it an empty one."""


LARGEST_OUTPUT = 1_000_000
"""Characters of stdout and of stderr that are kept: the first and the last half."""

GRACE = 2.0
"""Seconds between asking processes to end and killing them."""

_LAUNCHER = Path(__file__).with_name("launcher.py")
LAUNCHER_FILE = os.path.join(*_LAUNCHER.parts[-3:])
"""The end of the launcher's path in every installation of this package."""

_LAST_WORDS = 2.0  # seconds to read what is still in the pipes after everything has ended


class Execution:
    """One running command. Made by :meth:`start`; :meth:`finish` must be awaited afterwards."""

    def __init__(self, job: Job, process: Process, stdout: Output, stderr: Output) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self._job = job
        self._process = process
        self._running = anyio.CancelScope()

    @classmethod
    async def start(cls, job: Job, stdout: Output | None = None, stderr: Output | None = None) -> Execution:
        """Start a job. Raises ``OSError`` when it cannot be started."""
        try:
            process = await whole(_launch(job), lambda started: _end(started, mark_of(job)))
        except BaseException:
            _remove_temporary(job)
            raise
        return cls(job, process, stdout or Output(LARGEST_OUTPUT), stderr or Output(LARGEST_OUTPUT))

    @property
    def exit_code(self) -> int | None:
        """None while it runs; 128 + the signal's number when a signal ended it."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    def end(self) -> None:
        """Ask its processes to end, and kill them a little later. :meth:`finish` returns then."""
        self._running.cancel()

    async def finish(self, timeout: float | None = None) -> ExecResult:
        """Wait for its end. After ``timeout`` seconds, or when cancelled, all its processes are ended.

        Processes that the command left running are ended with it.
        """
        process, timed_out = self._process, False
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with anyio.create_task_group() as readers:
                readers.start_soon(_drain, process.stdout, self.stdout)
                readers.start_soon(_drain, process.stderr, self.stderr)
                try:
                    with self._running, anyio.move_on_after(timeout) as limit:
                        await orphans.launcher_ended(process, mark_of(self._job))
                    timed_out = limit.cancelled_caught
                finally:
                    with anyio.CancelScope(shield=True):
                        await _end(process, mark_of(self._job))
                readers.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS
        finally:
            with anyio.CancelScope(shield=True):
                await process.aclose()
            _close_pipes(process)
            _remove_temporary(self._job)
            self.stdout.finish()
            self.stderr.finish()
        code = self.exit_code
        assert code is not None
        truncated = bool(self.stdout.left_out or self.stderr.left_out)
        texts = self.stdout.text(), self.stderr.text()
        return ExecResult(code, *texts, timed_out=timed_out, truncated=truncated)


async def run(job: Job, timeout: float | None = None) -> ExecResult:
    """Start a job and wait for its end, as :class:`Execution` does. Raises ``OSError`` when it cannot be started."""
    return await (await Execution.start(job)).finish(timeout)


async def whole(
    starting: Coroutine[Any, Any, Started], ending: Callable[[Started], Coroutine[Any, Any, None]]
) -> Started:
    """Await ``starting`` to its end; if cancelled meanwhile, end what it started.

    Interrupted midway, it would leave a launcher that nothing refers to. Works for cancellation by anyio and by
    asyncio, which has no shielded scopes.
    """
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait({task})
            if task.exception() is None:
                await ending(task.result())
        raise


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` to its end, even when cancelled meanwhile by anyio or by asyncio."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
        raise


def launcher_words() -> list[str]:
    """Return the command with which this process starts ``launcher.py``."""
    return [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())]


def mark_of(job: Job) -> str:
    """Return the mark that all processes of a job have in their environment."""
    return job["environment"].get(orphans.VARIABLE, "")


async def _launch(job: Job) -> Process:
    files = job["network"] or ()
    process = await anyio.open_process(launcher_words(), env={}, cwd="/", start_new_session=True, pass_fds=files)
    assert process.stdin is not None
    try:
        with suppress(anyio.BrokenResourceError, BrokenPipeError, ConnectionResetError):  # the exit code shows it
            await process.stdin.send(json.dumps({**job, "grace": GRACE}).encode())
            await process.stdin.aclose()
    except BaseException:
        with anyio.CancelScope(shield=True), suppress(ProcessLookupError):
            process.kill()
            await process.aclose()
        _close_pipes(process)
        raise
    return process


def _close_pipes(process: Process) -> None:
    """Close our ends. While another process holds the other ends, no end of file comes, and nothing else does it."""
    transport = getattr(getattr(process, "_process", None), "_transport", None)
    if transport is not None:
        transport.close()


async def _drain(pipe: ByteReceiveStream, into: Output) -> None:
    async for data in pipe:
        into.feed(data)


def _remove_temporary(job: Job) -> None:
    """Remove what a killed launcher left; otherwise the launcher removes it, even when we are dead."""
    if job["temporary"]:
        with suppress(OSError):
            remove_tree(job["temporary"])


async def _end(process: Process, mark: str) -> None:
    """Let the launcher end the command, which it does even if this process dies first."""
    if process.returncode is not None:
        return
    process.terminate()
    with anyio.move_on_after(GRACE * 2 + 1):
        await orphans.launcher_ended(process, mark)
    if process.returncode is None:
        process.kill()
        await orphans.launcher_ended(process, mark)


@dataclass(frozen=True)
class Allowance:
    """Limits for a command, or an agent with all it starts; ``disk`` is for the VM's folder. None: no limit."""

    processes: int | None = None
    memory: int | None = None
    disk: int | None = None

    def __post_init__(self) -> None:
        for name, example in (("processes", "50"), ("memory", "2 * 1024**3"), ("disk", "10 * 1024**3")):
            value: object = getattr(self, name)
            if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
                continue
            unit = "a number" if name == "processes" else "a number of bytes"
            raise TypeError(
                f"{name} is {unit} of 1 or more, such as {example}, or None for no limit; not {value!r:.100}."
            )

    def limits(self, *folders: str) -> Limits | None:
        """Return the limits in the launcher's format; ``folders`` are those whose files count."""
        if self == ALL:
            return None
        return Limits(processes=self.processes, memory=self.memory, disk=self.disk, folders=list(folders))


ALL = Allowance()
"""No limits."""
