"""One command's or agent's access to the network, and the list of its refused requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentq_nb.agent_os.network.policy import Refusal

_MOST_REFUSED = 50
"""The most different refusals that are reported for one command or agent."""


def _nothing() -> None:
    pass


class Connection:
    """One command's or agent's access to the network. Under ``network="open"`` all fields are empty.

    :ivar variables: environment variables that its process needs.
    :ivar readable: files that it needs to read.
    :ivar namespace: the files of the namespace that it enters.
    :ivar ports: the only ports of this machine to which it may connect, where it enters no namespace.
    :ivar closing: the function that closes it.
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
        """Each refused request once, with what would allow it."""
        return tuple(self._refused)

    def close(self) -> None:
        """Stop all traffic. May be called from any thread, and more than once."""
        self.closing()

    def refuse(self, refusal: Refusal) -> None:
        """Record a refusal before the process gets it."""
        sentence = str(refusal)
        if sentence in self._refused or len(self._refused) >= _MOST_REFUSED:
            return
        self._refused[sentence] = None
        if self._told is not None:
            self._told(sentence)
