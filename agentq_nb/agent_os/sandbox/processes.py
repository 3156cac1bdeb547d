"""The processes of a VM since it woke: running ones, the last ended ones, and their events."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import shlex
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import anyio

from agentq_nb._actor.actor import Actor
from agentq_nb._core.ids import mint_id
from agentq_nb._core.redaction import Redactor, StreamRedactor
from agentq_nb.agent_os.network.open_network import Connection
from agentq_nb.agent_os.sandbox.output import Output, OutputEvents
from agentq_nb.agent_os.sandbox.process import LARGEST_OUTPUT, Execution, Job
from agentq_nb.agent_os.transcript import storable
from agentq_nb.agent_os.values import ExecResult, OutputSoFar, OutputStream, ProcessInfo, ProcessOutput
from agentq_nb.errors import AgentError, ProcessUnknown

MOST_ENDED = 20
"""How many spawned processes are listed after their end."""


@dataclass(eq=False)
class _Process:
    info: ProcessInfo
    execution: Execution
    events: OutputEvents
    connection: Connection
    ended: anyio.Event = field(default_factory=anyio.Event)


class Processes:
    """Starts, lists and ends the processes of one VM, which is kept awake while one of them runs."""

    def __init__(self, vm: Actor, redactor: Redactor) -> None:
        self._vm = vm
        self._redactor = redactor
        self._running: dict[str, _Process] = {}
        self._ended: deque[_Process] = deque(maxlen=MOST_ENDED)
        self._looking_after: set[asyncio.Task[None]] = set()

    async def run(
        self, job: Job, connection: Connection, command: str | Sequence[str], timeout: float | None
    ) -> ExecResult:
        """Run a command to its end; it is listed while it runs. Its connection is closed at the end."""
        return await self._attend(await self._start(job, connection, command), timeout)

    async def spawn(self, job: Job, connection: Connection, command: str | Sequence[str]) -> ProcessInfo:
        """Start a command that runs until it ends, is killed, or the VM is asked to end."""
        process = await self._start(job, connection, command)
        # A context of its own: the task outlives the call that started it.
        task = asyncio.get_running_loop().create_task(
            self._vm.keep_awake(self._look_after(process)),
            name=f"agentq process {process.info.process_id}",
            context=contextvars.Context(),
        )
        self._looking_after.add(task)
        task.add_done_callback(self._looked_after)
        return process.info

    def _looked_after(self, task: asyncio.Task[None]) -> None:
        self._looking_after.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._vm.runtime.failed(f"looking after {task.get_name()}", error)

    async def kill(self, process_id: str) -> ProcessInfo:
        """End a process with all it started; return how it ended."""
        process = self._find(process_id)
        process.execution.end()
        await process.ended.wait()
        return process.info

    def end_all(self) -> None:
        """Ask all running processes to end."""
        for process in self._running.values():
            process.execution.end()

    def all(self) -> list[ProcessInfo]:
        """Return running processes and the last ended ones, in the order in which they were started."""
        infos = (replace(process.info, refused=process.connection.refused) for process in self._known())
        return sorted(infos, key=lambda info: (info.started_at, info.process_id))

    def output(self, process_id: str) -> OutputSoFar:
        """Return what a process has written so far."""
        execution = self._find(process_id).execution
        texts = [self._redactor.text(output.text()) for output in (execution.stdout, execution.stderr)]
        return OutputSoFar(*texts, truncated=bool(execution.stdout.left_out or execution.stderr.left_out))

    def _known(self) -> list[_Process]:
        return [*self._ended, *self._running.values()]

    def _find(self, process_id: str) -> _Process:
        for process in self._known():
            if process.info.process_id == process_id:
                return process
        raise ProcessUnknown(
            f"VM '{self._vm.actor_id}' has no process {process_id!r:.100}. list_processes() shows those that run and "
            f"the last {MOST_ENDED} spawned ones that ended, since the VM woke.",
            metadata={"process_id": process_id},
        )

    async def _start(self, job: Job, connection: Connection, command: str | Sequence[str]) -> _Process:
        process_id = mint_id()
        events = OutputEvents(functools.partial(self._tell, process_id))
        outputs = (self._output(events, "stdout"), self._output(events, "stderr"))
        try:
            execution = await Execution.start(job, *outputs)
        except OSError as error:
            connection.close()
            raise AgentError(f"The command could not be started: {error}.", code="not_started") from None
        except BaseException:
            connection.close()
            raise
        info = ProcessInfo(process_id, self._shown(command), "running", datetime.now(UTC))
        process = self._running[process_id] = _Process(info, execution, events, connection)
        return process

    def _output(self, events: OutputEvents, stream: OutputStream) -> Output:
        return Output(LARGEST_OUTPUT, StreamRedactor(self._redactor), functools.partial(events.add, stream))

    def _tell(self, process_id: str, stream: OutputStream, text: str) -> None:
        self._vm.broadcast("process_output", ProcessOutput(process_id, stream, text))

    def _shown(self, command: str | Sequence[str]) -> str:
        words = self._redactor.text(command) if isinstance(command, str) else map(self._redactor.text, command)
        return storable(words if isinstance(words, str) else shlex.join(words))

    async def _look_after(self, process: _Process) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_with_vm, process)
            try:
                await self._attend(process, None)
            finally:
                self._ended.append(process)
            tasks.cancel_scope.cancel()

    async def _end_with_vm(self, process: _Process) -> None:
        await self._vm.runtime.until_closing()
        process.execution.end()

    async def _attend(self, process: _Process, timeout: float | None) -> ExecResult:
        try:
            result = await process.execution.finish(timeout)
            return replace(result, refused=process.connection.refused)
        finally:
            process.connection.close()
            process.events.flush()
            code = process.execution.exit_code
            refused = process.connection.refused
            process.info = replace(
                process.info, status="ended", ended_at=datetime.now(UTC), exit_code=code, refused=refused
            )
            del self._running[process.info.process_id]
            process.ended.set()
            self._vm.broadcast("process_exit", process.info)
