"""A long-running command with stdin and stdout open to this process and the end of its stderr kept."""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import anyio

from agentq_nb.agent_os.sandbox import orphans
from agentq_nb.agent_os.sandbox.launcher import remove_tree
from agentq_nb.agent_os.sandbox.process import GRACE, Job, launcher_words, mark_of, to_the_end, whole

_LONGEST_LINE = 64 * 1024 * 1024  # bytes of one line of stdout
_KEPT = 8192  # bytes of stderr
_SHOWN = 12  # lines of the kept stderr


class OpenProcess:
    """A running command, returned by :func:`open_process`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        input: asyncio.StreamWriter,
        job: Job,
        ended: Callable[[], None],
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.input = input
        self.output = process.stdout
        """Lines of up to 64 MiB."""
        self._process = process
        self._transport = cast(asyncio.SubprocessTransport, vars(process)["_transport"])
        self._loop = asyncio.get_running_loop()
        self._temporary = job["temporary"]
        self._ended = ended
        self._errors = b""
        watching = orphans.launcher_ended(process, mark_of(job))
        self._watching = asyncio.create_task(watching, name="agentq launcher")
        self._draining = asyncio.create_task(self._drain(process.stderr), name="agentq stderr")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; 128 + the signal's number when a signal ended it."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    def has_unread_input(self) -> bool:
        """Whether it has not read yet all that was written to its stdin. False where the system cannot tell."""
        if self.input.transport.get_write_buffer_size():
            return True
        unread = bytearray(4)
        with suppress(OSError, ValueError):  # closed, or not supported
            fcntl.ioctl(self.input.get_extra_info("socket").fileno(), termios.TIOCOUTQ, unread)
        return any(unread)

    async def wait(self, seconds: float) -> int | None:
        """Wait up to ``seconds`` for its end; return its exit code, or None if it still runs."""
        with anyio.move_on_after(seconds):
            await asyncio.wait({self._watching, self._draining})
        return self.exit_code

    def last_words(self) -> str:
        """Return the last whole lines it wrote to stderr. They may contain secrets."""
        text = self._errors
        if len(text) == _KEPT:
            # The first line is truncated, and a truncated secret in it would not be recognised.
            text = text.partition(b"\n")[2]
        return "\n".join(text.decode(errors="replace").strip().splitlines()[-_SHOWN:])

    async def aclose(self) -> None:
        """End it with all it started: ask it to, and kill it two seconds later."""
        await to_the_end(self._close())

    async def _close(self) -> None:
        self.input.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            if await self.wait(GRACE * 2 + 1) is None:
                self._process.kill()
        await asyncio.wait({self._watching})
        self._draining.cancel()
        await asyncio.wait({self._draining})
        # The launcher removes the folder; something is left only if the launcher itself was killed.
        if self._temporary:
            with suppress(OSError):
                remove_tree(self._temporary)
        self._ended()

    def abandon(self) -> None:
        """Ask it to end and do not wait, because its event loop has ended. The launcher does the rest."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        if self._loop.is_closed():
            # An open transport closes itself when it is garbage-collected, and its error would be printed.
            with suppress(RuntimeError):
                self._transport.close()
        self._ended()

    async def _drain(self, errors: asyncio.StreamReader) -> None:
        while data := await errors.read(65536):
            self._errors = (self._errors + data)[-_KEPT:]


async def open_process(job: Job, ended: Callable[[], None] = lambda: None) -> OpenProcess:
    """Start a job through the launcher, which ends it when we die. Raises ``OSError`` when it cannot be started.

    ``ended`` is called when the process is closed or abandoned, not when this raises.
    """
    return await whole(_open(job, ended), OpenProcess.aclose)


async def _open(job: Job, ended: Callable[[], None]) -> OpenProcess:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *launcher_words(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
            pass_fds=[theirs.fileno(), *(job["network"] or ())],
            limit=_LONGEST_LINE,
        )
        _, writer = await asyncio.open_connection(sock=ours)
        assert process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):  # the exit code shows it
            process.stdin.write(json.dumps({**job, "grace": GRACE, "input": theirs.fileno()}).encode())
            await process.stdin.drain()
        process.stdin.close()
    return OpenProcess(process, writer, job, ended)
