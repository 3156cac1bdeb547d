"""The actions of a VM on its processes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agentq_nb._actor.actor import action
from agentq_nb.agent_os.sandbox.workspace import FileName
from agentq_nb.agent_os.validation import checked_environment, checked_public, checked_timeout
from agentq_nb.agent_os.values import ExecResult, Forward, Isolation, OutputSoFar, ProcessInfo
from agentq_nb.agent_os.vm_base import Environment, Machine
from agentq_nb.errors import ValidationFailed


class ProcessActions(Machine, action_timeout=None):
    """Commands run isolated, in the VM's folder."""

    @action
    async def exec(
        self,
        command: str | Sequence[str],
        timeout: float | None = None,
        cwd: FileName = ".",
        env: Environment = None,
        public_env: Collection[str] = (),
    ) -> ExecResult:
        """Run a shell command (a str) or a program with its arguments (a list) and wait for it.

        After ``timeout`` seconds, when the call is cancelled, and when the kernel dies, it is ended with all it
        started; what it leaves running when it ends by itself is ended too. Output is kept up to 1 MB each for stdout
        and stderr, first and last half. Values of ``env`` are redacted in it, as are those of the VM's sessions,
        if they have 8 characters or more and are not named in ``public_env``. While it runs its output is told by the
        event ``process_output``, and it can be listed and killed. What the VM's network did not let it reach is told in
        ``refused``.
        """
        environment = self._environment(env, public_env)
        return await self.keep_awake(self._exec(command, checked_timeout(timeout), cwd, environment))

    @action
    async def spawn(
        self,
        command: str | Sequence[str],
        cwd: FileName = ".",
        env: Environment = None,
        public_env: Collection[str] = (),
    ) -> ProcessInfo:
        """Start a command and let it run on, such as a server; see :meth:`exec` for what it is given.

        Its output is told by the event ``process_output`` (:class:`ProcessOutput`; ten times a second at most, and cut
        in the middle where more comes), its end by ``process_exit`` (:class:`ProcessInfo`). It belongs to the VM, not to
        the call that made it: it ends by itself, by :meth:`kill`, or when the VM is told to sleep, is replaced or
        destroyed, and when the host stops or the kernel dies. A VM does not go to sleep by itself while one runs.
        """
        environment = self._environment(env, public_env)
        prepared, connection = await self._job(command, cwd, environment)
        return await self._processes.spawn(prepared, connection, command)

    @action(while_ending=True)
    async def kill(self, process_id: str) -> ProcessInfo:
        """End a process and all it started: asked to, and killed two seconds later. How it ended.

        Nothing happens to one that has ended. Raises ``ProcessUnknown``.
        """
        return await self._processes.kill(process_id)

    @action(while_ending=True)
    async def list_processes(self) -> list[ProcessInfo]:
        """The processes that run, those of ``exec`` too, and the last 20 spawned ones that ended since the VM woke."""
        return self._processes.all()

    @action(while_ending=True)
    async def process_output(self, process_id: str) -> OutputSoFar:
        """What a listed process has written by now: of each output up to 1 MB, first and last half.

        Raises ``ProcessUnknown``.
        """
        return self._processes.output(process_id)

    @action
    async def forward(self, port: int) -> Forward:
        """Let a port on which a process of the VM listens be reached on this machine, to look at a development server.

        Everything on this machine can connect there, until the VM goes to sleep. Nothing needs to listen yet. Where the VM
        has no network of its own it is the same port, and where Landlock closes this machine's ports, processes that are
        started from then on may connect to it too.
        """
        if not 0 < port < 65536:
            raise ValidationFailed(f"A port is a number from 1 to 65535, not {port!r:.100}.")
        return Forward(port, f"http://127.0.0.1:{await self._forwarded(port)}")

    @action(while_ending=True)
    async def isolation(self) -> Isolation:
        """What stands between this VM's processes and the machine, and what does not."""
        return await self._isolation()

    def _environment(self, env: Environment, public_env: Collection[str]) -> dict[str, str]:
        """The variables of a command; their values are secrets from now on."""
        environment = checked_environment(env)
        self._sessions.redactor.add(environment, checked_public(public_env))
        self._sessions.redactor.add_own()
        return environment
