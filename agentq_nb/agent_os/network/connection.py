"""One command's or agent's way out, and what it asked for and did not get."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentq_nb.agent_os.network.policy import Refusal

_MOST_REFUSED = 50
"""Different refusals of one command or agent that are told."""


def _nothing() -> None:
    pass


class Connection:
    """One command's or agent's way out. Under ``network="open"`` it is all empty.

    :ivar variables: what its process needs in its environment.
    :ivar readable: files that it needs to read.
    :ivar namespace: the files of the namespace that it enters.
    :ivar ports: those of this machine to which alone it may connect, where it enters none.
    :ivar closing: what closes it.
    """

    def __init__(self, told: Callable[[str], None] | None = None) -> None:
        self.variables: dict[str, str] = {}
        self.readable: tuple[str, ...] = ()
        self.namespace: tuple[int, int] | None = None
        self.ports: Sequence[int] | None = None
        self._told = told
        self._refused: dict[str, None] = {}
        self.closing: Callable[[], None] = _nothing

    @property
    def refused(self) -> tuple[str, ...]:
        """What it asked for and did not get, each once, with what would allow it."""
        return tuple(self._refused)

    def close(self) -> None:
        """Let nothing through any more. May be called from any thread, and twice."""
        self.closing()

    def refuse(self, refusal: Refusal) -> None:
        """Take down what was refused, before the process is told."""
        sentence = str(refusal)
        if sentence in self._refused or len(self._refused) >= _MOST_REFUSED:
            return
        self._refused[sentence] = None
        if self._told is not None:
            self._told(sentence)
