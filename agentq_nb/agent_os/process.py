"""One command from start to end: its output kept within bounds, itself and all it started ended with it."""

from __future__ import annotations

import codecs
import json
import os
import shutil
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypedDict

import anyio
from anyio.abc import ByteReceiveStream, Process

from agentq_nb.agent_os.values import ExecResult


class Bubblewrap(TypedDict):
    """How to call bubblewrap."""

    program: str
    options: list[str]


class Landlock(TypedDict):
    """The paths below which may be written, and read."""

    write: list[str]
    read: list[str]


class Job(TypedDict):
    """What ``launcher.py`` reads."""

    command: list[str]
    environment: dict[str, str]
    directory: str
    temporary: str | None
    """A folder that goes with the command."""
    bubblewrap: Bubblewrap | None
    landlock: Landlock | None
    input: int | None
    """An inherited file descriptor that becomes the command's stdin; None gives it an empty one."""


LARGEST_OUTPUT = 1_000_000
"""Characters of stdout and of stderr that are kept: the first and the last half."""

GRACE = 2.0
"""Seconds between asking processes to end and killing them."""

_LAUNCHER = Path(__file__).with_name("launcher.py")
_LAST_WORDS = 2.0  # seconds to read what is still in the pipes once everything has ended


class TextFilter(Protocol):
    """Text goes in as it comes, and comes out with secrets taken out."""

    def feed(self, text: str) -> str: ...
    def finish(self) -> str: ...


class _Unchanged:
    def feed(self, text: str) -> str:
        return text

    def finish(self) -> str:
        return ""


class Kept:
    """The first and the last half of a text that may be endless."""

    def __init__(self, limit: int, through: TextFilter | None = None) -> None:
        self._half = limit // 2
        self._through = through or _Unchanged()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head = ""
        self._tail: deque[str] = deque()
        self._tail_length = 0
        self.left_out = 0

    def feed(self, data: bytes) -> None:
        self._add(self._through.feed(self._decoder.decode(data)))

    def text(self) -> str:
        """Everything kept; ends the text."""
        self._add(self._through.feed(self._decoder.decode(b"", True)) + self._through.finish())
        tail = "".join(self._tail)
        if not self.left_out:
            return self._head + tail
        surplus = max(0, len(tail) - self._half)
        self.left_out += surplus
        return f"{self._head}\n[… {self.left_out} characters left out …]\n{tail[surplus:]}"

    def _add(self, text: str) -> None:
        room = self._half - len(self._head)
        if room > 0:
            self._head += text[:room]
            text = text[room:]
        if not text:
            return
        self._tail.append(text)
        self._tail_length += len(text)
        while self._tail_length - len(self._tail[0]) >= self._half:
            gone = len(self._tail.popleft())
            self._tail_length -= gone
            self.left_out += gone


async def run(
    job: Job,
    timeout: float | None = None,
    stdout: TextFilter | None = None,
    stderr: TextFilter | None = None,
) -> ExecResult:
    """Run a job and wait for it. After ``timeout`` seconds, or when cancelled, all its processes are ended.

    Processes that the command left running are ended with it. Raises ``OSError`` when it cannot be started.
    """
    try:
        return await _run(job, timeout, stdout, stderr)
    finally:
        # The launcher removes it, also when we are dead; only if it was killed itself is there something left to do.
        if job["temporary"] and os.path.exists(job["temporary"]):
            shutil.rmtree(job["temporary"], ignore_errors=True)


async def _run(job: Job, timeout: float | None, stdout: TextFilter | None, stderr: TextFilter | None) -> ExecResult:
    kept = Kept(LARGEST_OUTPUT, stdout), Kept(LARGEST_OUTPUT, stderr)
    timed_out = False
    process: Process | None = None
    # Cancelled in the middle of this, there would be a launcher that nobody knows of.
    with anyio.CancelScope(shield=True):
        process = await _launch(job)
    assert process is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with anyio.create_task_group() as readers:
            readers.start_soon(_drain, process.stdout, kept[0])
            readers.start_soon(_drain, process.stderr, kept[1])
            try:
                with anyio.move_on_after(timeout) as limit:
                    await process.wait()
                timed_out = limit.cancelled_caught
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
            readers.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS
    finally:
        with anyio.CancelScope(shield=True):
            await process.aclose()
    texts = kept[0].text(), kept[1].text()
    code = process.returncode
    assert code is not None
    truncated = bool(kept[0].left_out or kept[1].left_out)
    return ExecResult(code if code >= 0 else 128 - code, *texts, timed_out=timed_out, truncated=truncated)


def launcher_words() -> list[str]:
    """How ``launcher.py`` is started by this process."""
    return [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())]


async def _launch(job: Job) -> Process:
    process = await anyio.open_process(launcher_words(), env={}, cwd="/", start_new_session=True)
    assert process.stdin is not None
    with suppress(anyio.BrokenResourceError, BrokenPipeError, ConnectionResetError):  # its exit code will tell
        await process.stdin.send(json.dumps({**job, "grace": GRACE}).encode())
        await process.stdin.aclose()
    return process


async def _drain(pipe: ByteReceiveStream, into: Kept) -> None:
    async for data in pipe:
        into.feed(data)


async def _end(process: Process) -> None:
    """The launcher does the ending, even if we are gone before it is done."""
    if process.returncode is not None:
        return
    process.terminate()
    with anyio.move_on_after(GRACE * 2 + 1):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
