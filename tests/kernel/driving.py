"""Drives a real Jupyter kernel the way a front end does: cells, outputs, interrupts, kills and restarts."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

PROJECT = Path(__file__).resolve().parents[2]
"""The checkout: kernels started here import the package from it."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_POLL = 0.2


class KernelDied(Exception):
    """The kernel's process ended while a cell was waited for."""


class CellTimeout(Exception):
    """A cell did not end in time. It may still be running."""


@dataclass
class CellResult:
    """What one cell showed. Output that arrives after the cell's end is still added to it."""

    code: str
    status: str = "running"
    """``"running"``, then ``"ok"``, ``"error"`` or ``"aborted"`` (an earlier queued cell failed)."""
    stdout: str = ""
    stderr: str = ""
    results: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Each ``Out[n]`` as MIME type → data."""
    displays: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Each ``display(...)`` as MIME type → data."""
    error_name: str | None = None
    error_value: str | None = None
    traceback: str = ""
    """Without colours."""
    order: int = -1
    """0 for the first cell of this kernel that ended, and so on."""

    @property
    def text(self) -> str:
        """The text/plain form of the last result or display."""
        return str((self.results or self.displays)[-1]["text/plain"])

    @property
    def html(self) -> str:
        """The text/html form of the last result or display; empty when there is none."""
        return str((self.results or self.displays)[-1].get("text/html", ""))

    @property
    def silent(self) -> bool:
        """Nothing at all was shown."""
        return not (self.stdout or self.stderr or self.results or self.displays or self.error_name)

    def check(self) -> CellResult:
        """This result, or AssertionError with the cell and its traceback when it did not end well."""
        if self.status != "ok":
            raise AssertionError(
                f"cell ended with {self.status}: {self.error_name}: {self.error_value}\n"
                f"--- cell\n{self.code}\n--- traceback\n{self.traceback}\n--- stderr\n{self.stderr}"
            )
        return self


def in_background(code: str) -> str:
    """A cell that starts its host in the background, made of one that starts it in the kernel's event loop."""
    return code.replace("%agentq start", "%agentq start --background").replace(
        "setup(use=", "setup(background=True, use="
    )


class Kernel:
    """A real ipykernel in a process of its own, working in the folder ``cwd``. Use it in a ``with`` statement.

    :param environment: added to this process's environment; a value of None removes the name.
    :param background: every host that a cell sets up or starts is one in the background: the cells say so.
    """

    def __init__(
        self, cwd: Path, environment: Mapping[str, str | None] | None = None, *, background: bool = False
    ) -> None:
        self.cwd = Path(cwd)
        self.background = background
        self.has_reader = False
        """Whether cells are run as front ends for people run them: those can be asked for input."""
        self._environment = dict(environment or {})
        self._manager: KernelManager | None = None
        self._client: BlockingKernelClient | None = None
        self._sockets: tempfile.TemporaryDirectory[str] | None = None
        self._cells: dict[str, CellResult] = {}
        self._replied: set[str] = set()
        self._idle: set[str] = set()
        self._ended = 0

    def __enter__(self) -> Kernel:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    # --- the process ---

    def start(self) -> None:
        """Start the process and wait until it answers."""
        assert self._client is None, "it was started before, and may be started again: restart()"
        # Sockets in a folder of their own: two kernels that start at once may be given the same port.
        self._sockets = tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True)
        self._manager = KernelManager(
            kernel_name="python3",
            connection_file=f"{self._sockets.name}/kernel.json",
            transport="ipc",
            ip=f"{self._sockets.name}/kernel",
        )
        self._manager.start_kernel(cwd=str(self.cwd), env=self._environment_of_kernel())
        self._client = self._manager.blocking_client()
        self._client.start_channels(hb=False)  # the process itself is looked at instead
        try:
            self._wait_until_heard()
        except BaseException:
            self._close()  # sockets that are left to be collected hold up this process, once nobody answers them
            raise
        self._cells, self._replied, self._idle, self._ended = {}, set(), set(), 0

    @property
    def pid(self) -> int:
        """The process id of the kernel."""
        assert self._manager is not None, "the kernel was not started"
        return int(self._manager.provisioner.pid)  # type: ignore[union-attr]

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._manager is not None and bool(self._manager.is_alive())

    def interrupt(self) -> None:
        """What the stop button does: SIGINT."""
        assert self._manager is not None
        self._manager.interrupt_kernel()

    def kill(self) -> None:
        """``kill -9``, and wait until the process is gone."""
        os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self.alive:
            assert time.monotonic() < deadline, "the kernel survived SIGKILL"
            time.sleep(0.01)

    def restart(self) -> None:
        """A fresh process in the same folder: after a graceful shutdown, or after ``kill`` just so."""
        self._close()
        self.start()

    # --- cells ---

    def run(self, code: str, timeout: float = 60, *, silent: bool = False, store_history: bool = True) -> CellResult:
        """Run one cell to its end. Raises KernelDied, or CellTimeout after ``timeout`` seconds."""
        return self.wait(self.submit(code, silent=silent, store_history=store_history), timeout)

    def run_all(self, cells: Sequence[str], timeout: float = 60) -> list[CellResult]:
        """Queue all cells at once, as "Run All" does, and wait for the last."""
        submitted = [self.submit(code) for code in cells]
        return [self.wait(cell, timeout) for cell in submitted]

    def submit(self, code: str, *, silent: bool = False, store_history: bool = True) -> CellResult:
        """Queue one cell and return at once; ``wait`` fills the result.

        Front ends run ``silent`` code, and code without ``store_history``, for themselves and not for a person.
        """
        assert self._client is not None
        code = in_background(code) if self.background else code
        identity = self._client.execute(
            code, allow_stdin=self.has_reader, stop_on_error=True, silent=silent, store_history=store_history
        )
        self._cells[identity] = CellResult(code)
        return self._cells[identity]

    def wait(self, cell: CellResult, timeout: float = 60) -> CellResult:
        """Wait until a submitted cell has ended. Raises KernelDied, or CellTimeout after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while cell.status == "running" or not self._settled(cell):
            self._read(_POLL)
            if not self.alive and not self._settled(cell):
                raise KernelDied(f"while running:\n{cell.code}")
            if time.monotonic() > deadline:
                raise CellTimeout(f"after {timeout:g} s:\n{cell.code}\n--- stdout\n{cell.stdout}")
        return cell

    def listen(self, seconds: float) -> None:
        """Collect what arrives without a cell running: output of background tasks is added to their cells."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(min(left, _POLL))

    def value(self, expression: str, timeout: float = 60) -> Any:
        """The value of a JSON-able expression in the kernel; ``await`` may stand in it."""
        return json.loads(ast.literal_eval(self.run(f"__import__('json').dumps({expression})", timeout).check().text))

    def complete(self, code: str, timeout: float = 30) -> list[str]:
        """What the front end offers at the end of ``code``."""
        assert self._client is not None
        reply = self._client.complete(code, len(code), reply=True, timeout=timeout)
        return [str(match) for match in reply["content"]["matches"]]

    # --- inside ---

    def _wait_until_heard(self, timeout: float = 60) -> None:
        """Ask until something is published: what a kernel publishes before this end has subscribed is lost."""
        assert self._client is not None
        deadline = time.monotonic() + timeout
        while not self._client.iopub_channel.msg_ready():
            if not self.alive:
                raise KernelDied("at its start")
            assert time.monotonic() < deadline, f"the kernel did not answer within {timeout:g} s"
            self._client.kernel_info()
            zmq.select([self._client.iopub_channel.socket], [], [], timeout=_POLL)

    def _environment_of_kernel(self) -> dict[str, str]:
        merged: dict[str, str | None] = {
            **os.environ,
            "JPY_SESSION_NAME": None,
            "AGENTQ_DB": None,
            "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "IPYTHONDIR": str(self.cwd / ".ipython"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            **self._environment,
        }
        return {name: value for name, value in merged.items() if value is not None}

    def _close(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
            self._client = None
        if self._manager is not None:
            self._manager.shutdown_kernel(now=not self.alive)
            self._manager = None
        if self._sockets is not None:
            self._sockets.cleanup()
            self._sockets = None

    def _settled(self, cell: CellResult) -> bool:
        identity = next(identity for identity, known in self._cells.items() if known is cell)
        return identity in self._replied and (cell.status == "aborted" or identity in self._idle)

    def _read(self, seconds: float) -> None:
        assert self._client is not None
        published, answered = self._client.iopub_channel, self._client.shell_channel
        zmq.select([published.socket, answered.socket], [], [], timeout=seconds)
        if published.msg_ready():
            self._published(published.get_msg())
        while answered.msg_ready():
            self._answered(answered.get_msg())

    def _answered(self, message: dict[str, Any]) -> None:
        identity = str(message["parent_header"].get("msg_id"))
        cell = self._cells.get(identity)
        if cell is None or message["msg_type"] != "execute_reply":
            return
        cell.status = str(message["content"]["status"])
        cell.order, self._ended = self._ended, self._ended + 1
        self._replied.add(identity)

    def _published(self, message: dict[str, Any]) -> None:
        identity = str(message["parent_header"].get("msg_id"))
        cell = self._cells.get(identity)
        if cell is None:
            return
        content = message["content"]
        match message["msg_type"]:
            case "status" if content["execution_state"] == "idle":
                self._idle.add(identity)
            case "stream" if content["name"] == "stdout":
                cell.stdout += content["text"]
            case "stream":
                cell.stderr += content["text"]
            case "execute_result":
                cell.results.append(content["data"])
            case "display_data":
                cell.displays.append(content["data"])
            case "error":
                cell.error_name, cell.error_value = content["ename"], content["evalue"]
                cell.traceback = _COLOURS.sub("", "\n".join(content["traceback"]))
            case _:
                pass
