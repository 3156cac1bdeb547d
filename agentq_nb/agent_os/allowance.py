"""What the processes of a VM may use of the machine, as ``agent_os`` is told."""

from __future__ import annotations

from dataclasses import dataclass

from agentq_nb.agent_os.process import Limits


@dataclass(frozen=True)
class Allowance:
    """For each command, and each agent with all it starts; ``disk`` is for the VM's folder. None: no limit."""

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
        """As the launcher takes them; ``folders`` are those whose files count."""
        if self == ALL:
            return None
        return Limits(processes=self.processes, memory=self.memory, disk=self.disk, folders=list(folders))


ALL = Allowance()
"""No limits."""
