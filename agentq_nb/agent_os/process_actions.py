"""The actions of a VM on its processes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agentq_nb.actor import action
from agentq_nb.agent_os.arguments import checked_environment
from agentq_nb.agent_os.isolation import in_force
from agentq_nb.agent_os.machine import Environment, Machine
from agentq_nb.agent_os.values import ExecResult, Isolation
from agentq_nb.agent_os.workspace import FileName


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
        if they have 8 characters or more and are not named in ``public_env``.
        """
        environment = checked_environment(env)
        self._sessions.redactor.add(environment, public_env)
        self._sessions.redactor.add_own()
        return await self.keep_awake(self._exec(command, timeout, cwd, environment))

    @action
    async def isolation(self) -> Isolation:
        """What stands between this VM's processes and the machine, and what does not."""
        return await in_force(self._isolation_mode)
