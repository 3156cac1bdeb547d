"""What a host does in the background: each part is tried again when it fails, and ``status()`` says which one and why."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from agentq_nb._actor.message import describe, headline
from agentq_nb._core.clock import Clock, Timer
from agentq_nb._policies.backoff import backoff
from agentq_nb.errors import AgentqError

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0

Work: TypeAlias = Callable[[], Awaitable[None]]


class Part(NamedTuple):
    """One thing that a host does in the background.

    :ivar name: as it stands in a sentence: "Dropping old history".
    :ivar work: one round of it, which waits until there is something to do. What it raises is told, and tried again.
    :ivar waits: it mostly waits for something to happen, and works while it does.
    """

    name: str
    work: Work
    waits: bool = False


class Upkeep:
    """The troubles of one host's parts, by their name. ``note``, ``clear`` and ``trouble`` are for any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._troubles: dict[str, str] = {}

    @property
    def trouble(self) -> str | None:
        """What does not work just now, in a sentence for each part; None when all is well."""
        return " ".join(list(self._troubles.values())) or None

    def note(self, part: str, error: BaseException, *, again: bool = True) -> None:
        """The part has failed: in ``status()`` until it is cleared, and in the logger. ``again``: it is tried again."""
        said = f"{part} failed: {reason(error)}{' It is tried again.' if again else ''}"
        if self._troubles.get(part) != said:
            self._troubles[part] = said
            # An error of ours says all there is to say; of any other, the place matters.
            traceback = None if isinstance(error, AgentqError) else error
            logging.getLogger("agentq").warning("%s", said, exc_info=traceback)

    def clear(self, part: str) -> None:
        """The part works, or there is nothing left for it to do."""
        self._troubles.pop(part, None)

    async def keep(self, part: Part) -> None:
        """Do the rounds of a part until cancelled; see :meth:`until_done`."""
        while True:
            await self.until_done(part.name, part.work, waits=part.waits)

    async def until_done(self, part: str, work: Work, *, waits: bool = False) -> None:
        """Call ``work`` until it returns. What it raises is trouble until then, and the pauses between the tries grow.

        With ``waits``, work that mostly waits for something to happen: once it has done so for as long as the last pause
        without failing, it works.
        """
        failures = 1 if part in self._troubles else 0
        while True:
            works = self._clear_after(part, _pause(failures)) if waits and failures else None
            try:
                await work()
            except Exception as error:  # whatever it is, it must not end the host
                failures = failures + 1 if part in self._troubles else 1
                self.note(part, error)
            else:
                self.clear(part)
                return
            finally:
                if works is not None:
                    works.cancel()
            await self._clock.sleep(_pause(failures))

    def _clear_after(self, part: str, seconds: float) -> Timer:
        return self._clock.call_later(seconds, lambda: self.clear(part))


def _pause(failures: int) -> float:
    return backoff(failures, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)


def reason(error: BaseException) -> str:
    """An error in one sentence for people."""
    if isinstance(error, AgentqError):
        return error.message
    said = " ".join(headline(describe(error, with_traceback=False)).split())
    return said if said.endswith((".", "!", "?")) else f"{said}."
