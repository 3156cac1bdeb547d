"""A VM's actions to run commands, manage processes and forward ports."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agentq_nb._actor.actor import action
from agentq_nb.agent_os.sandbox.workspace import FileName
from agentq_nb.agent_os.validation import checked_environment, checked_public, checked_timeout
from agentq_nb.agent_os.values import ExecResult, Forward, Isolation, OutputSoFar, ProcessInfo
from agentq_nb.agent_os.vm_base import Environment, VmBase
from agentq_nb.errors import ValidationFailed


class ProcessActions(VmBase, action_timeout=None):
    """Commands run in the sandbox, in the VM's folder."""

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

        After ``timeout`` seconds, when the call is cancelled, and when the kernel dies, the command is ended with all
        it started; what it leaves running when it ends by itself is ended too. Output is kept up to 1 MB each for
        stdout and stderr, first and last half. Values of ``env`` and of the VM's sessions are redacted in it if they
        have 8 characters or more and are not named in ``public_env``. While the command runs, its output is broadcast
        as the event ``process_output``, and it can be listed and killed. ``refused`` lists what the VM's network did
        not let it reach.
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
        """Start a command and let it keep running, such as a server; see :meth:`exec` for the arguments.

        Its output is broadcast as the event ``process_output`` (:class:`ProcessOutput`; ten times a second at most, and
        truncated in the middle where more comes), its end as ``process_exit`` (:class:`ProcessInfo`). It belongs to the
        VM, not to the call that started it: it ends by itself, by :meth:`kill`, when the VM is put to sleep, replaced
        or destroyed, and when the host stops or the kernel dies. A VM does not go to sleep by itself while one runs.
        """
        environment = self._environment(env, public_env)
        prepared, connection = await self._job(command, cwd, environment)
        return await self._processes.spawn(prepared, connection, command)

    @action(while_ending=True)
    async def kill(self, process_id: str) -> ProcessInfo:
        """End a process and all it started: ask it to, and kill it two seconds later. Return how it ended.

        Does nothing to one that has ended. Raises ``ProcessUnknown``.
        """
        return await self._processes.kill(process_id)

    @action(while_ending=True)
    async def list_processes(self) -> list[ProcessInfo]:
        """Return running processes, those of ``exec`` too, and the last 20 spawned ones that ended since it woke."""
        return self._processes.all()

    @action(while_ending=True)
    async def process_output(self, process_id: str) -> OutputSoFar:
        """Return the output of a listed process so far: up to 1 MB each for stdout and stderr, first and last half.

        Raises ``ProcessUnknown``.
        """
        return self._processes.output(process_id)

    @action
    async def forward(self, port: int) -> Forward:
        """Make a port of the VM reachable on this machine, such as that of a development server.

        Everything on this machine can connect to it until the VM goes to sleep. The process may start to listen later.
        Where the VM has no network of its own it is the same port, and where Landlock closes this machine's ports,
        processes started from then on may connect to it too.
        """
        if not 0 < port < 65536:
            raise ValidationFailed(f"A port is a number from 1 to 65535, not {port!r:.100}.")
        return Forward(port, f"http://127.0.0.1:{await self._forwarded(port)}")

    @action(while_ending=True)
    async def isolation(self) -> Isolation:
        """Return which sandbox separates this VM's processes from the machine, with what it does not protect."""
        return await self._isolation()

    def _environment(self, env: Environment, public_env: Collection[str]) -> dict[str, str]:
        """Return the variables of a command; their values are secrets from now on."""
        environment = checked_environment(env)
        self._sessions.redactor.add(environment, checked_public(public_env))
        self._sessions.redactor.add_own()
        return environment
