"""Background tasks of a host: retry each when it fails, and report which one and why in ``status()``."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from agentq_nb._actor.message import describe, headline
from agentq_nb._core.clock import Clock, Timer
from agentq_nb._policies.retry import backoff
from agentq_nb.errors import AgentqError

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0

Work: TypeAlias = Callable[[], Awaitable[None]]


class Part(NamedTuple):
    """One background task of a host.

    :ivar name: the task as the subject of a sentence: "Dropping old history".
    :ivar work: one round, which waits until there is something to do. If it raises, that is reported and it is retried.
    :ivar waits: whether it mostly waits for events; while it waits, it counts as working.
    """

    name: str
    work: Work
    waits: bool = False


class Upkeep:
    """The current failures of one host's parts, by name. ``note``, ``report``, ``clear`` and ``trouble`` are thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._troubles: dict[str, str] = {}

    @property
    def trouble(self) -> str | None:
        """The parts that currently fail, a sentence each; None if all work."""
        return " ".join(list(self._troubles.values())) or None

    def note(self, part: str, error: BaseException, *, again: bool = True) -> None:
        """Report a failed part in the logger, and in ``status()`` until it is cleared. ``again``: it is retried."""
        said = f"{part} failed: {reason(error)}{' It is tried again.' if again else ''}"
        # An AgentqError explains itself; for any other error the place matters.
        self.report(part, said, None if isinstance(error, AgentqError) else error)

    def report(self, part: str, said: str, error: BaseException | None = None) -> None:
        """Report a trouble in sentences of its own, in the logger and in ``status()`` until it is cleared."""
        if self._troubles.get(part) != said:
            self._troubles[part] = said
            logging.getLogger("agentq").warning("%s", said, exc_info=error)

    def clear(self, part: str) -> None:
        """Note that the part works, or has nothing left to do."""
        self._troubles.pop(part, None)

    async def keep(self, part: Part) -> None:
        """Run a part's rounds until cancelled; see :meth:`until_done`."""
        while True:
            await self.until_done(part.name, part.work, waits=part.waits)

    async def until_done(self, part: str, work: Work, *, waits: bool = False) -> None:
        """Call ``work`` until it returns. Its errors are reported until then, and the pauses between attempts grow.

        With ``waits``, work that mostly waits for events counts as working again once it has run without an error for
        as long as the last pause.
        """
        failures = 1 if part in self._troubles else 0
        while True:
            works = self._clear_after(part, _pause(failures)) if waits and failures else None
            try:
                await work()
            except Exception as error:  # must not end the host
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
    """Return an error as one readable sentence."""
    if isinstance(error, AgentqError):
        return error.message
    said = " ".join(headline(describe(error, with_traceback=False)).split())
    return said if said.endswith((".", "!", "?")) else f"{said}."
