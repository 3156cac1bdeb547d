"""Publish activity while a kernel's queues have work, so that a server does not end the kernel as idle.

JupyterHub and ``jupyter_server`` end kernels that published nothing for a while; actors at work publish nothing.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias, get_args

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.message import CRON_QUEUE, SCHEDULE_QUEUE
from agentq_nb._core.clock import Clock
from agentq_nb.errors import Unavailable, ValidationFailed

KeepAliveMode: TypeAlias = Literal["never", "work", "always"]
"""When a kernel is kept alive: never, while there is work, or as long as its host runs."""

HORIZON = 12 * 3600.0
"""Seconds. Neither work due later than this keeps a kernel alive, nor work that settles nothing for this long."""

_SHORTEST_INTERVAL = 1.0

_TARGET = "agentq-keep-alive"


def keep_alive_mode(mode: str) -> KeepAliveMode:
    """Return the mode of this name. Raises ``actor.validation_error``."""
    for known in get_args(KeepAliveMode):
        if mode == known:
            return known
    raise ValidationFailed(f'keep_alive is "never", "work" or "always"; not {mode!r}.')


@dataclass
class KeepAliveSettings:
    """The user's settings for keeping the kernel alive. Can be changed at any time."""

    mode: KeepAliveMode = "work"
    interval: float = 20.0
    """Seconds between two signs of activity."""


def keep_alive_interval(seconds: float) -> float:
    """Return the interval, in seconds, as a float. Raises ``actor.validation_error`` if it is out of range."""
    if not _SHORTEST_INTERVAL <= seconds <= HORIZON:
        raise ValidationFailed(f"keep_alive_interval is in seconds, from 1 to 12 hours; not {seconds!r}.")
    return float(seconds)


class BrokerAtWork(Protocol):
    """A broker, as far as it says whether its queues have work."""

    @property
    def clock(self) -> Clock: ...

    @property
    def look_every(self) -> float:
        """Seconds between two checks."""
        ...

    @property
    def settled(self) -> int:
        """A number that is higher once messages have been settled."""
        ...

    async def works_until(self, queues: Mapping[str, Collection[str]], moment: float) -> bool:
        """Whether actors have messages in flight, due now, or due by ``moment``. May raise Unavailable.

        ``queues`` maps the registered names of the actors that count to their queues that count.
        """
        ...


class KeepAlive:
    """Shows activity while the kernel must be kept alive. Runs beside the broker as long as the host runs.

    :param classes: the actor classes, by the name they are registered under.
    :param show_activity: called once per interval while the kernel must be kept alive.
    :ivar active: whether the kernel is kept alive now.
    :ivar ended_at: when that ended because nothing was settled for 12 hours, in seconds since 1970; None if it has not.
    """

    def __init__(
        self,
        broker: BrokerAtWork,
        settings: KeepAliveSettings,
        classes: Mapping[str, type[Actor]],
        show_activity: Callable[[], None],
    ) -> None:
        self.active = settings.mode != "never"
        self.ended_at: float | None = None
        self._broker = broker
        self._settings = settings
        self._classes = classes
        self._show_activity = show_activity
        self._settled = broker.settled
        # Both sum up the pauses between checks, so that setting the clock or suspending the machine does not count.
        self._without_progress = 0.0
        self._without_activity = settings.interval

    @property
    def notice(self) -> str | None:
        """A sentence if the kernel is no longer kept alive although there is work; None otherwise."""
        if self.ended_at is None:
            return None
        return (
            f"Nothing has been settled for 12 hours, so this kernel is no longer kept alive since "
            f"{moment(self.ended_at)}: a server that ends idle kernels may end it. Once a message is settled it is kept "
            f"alive again. To keep it alive whatever happens: %agentq start --keep-alive=always"
        )

    async def work(self) -> None:
        """Check once, and show activity if the interval is over."""
        with suppress(Unavailable):  # then it stays as it was: the work is there, though out of reach
            self.active = await self._called_for()
        if self.active and self._without_activity >= self._settings.interval:
            self._without_activity = 0.0
            self._show_activity()
        pause = min(self._broker.look_every, self._settings.interval)
        await self._broker.clock.sleep(pause)
        self._without_activity += pause
        self._without_progress += pause

    async def _called_for(self) -> bool:
        mode = self._settings.mode
        if mode != "work":
            self._reset()
            return mode == "always"
        now = self._broker.clock.time()
        # The next call of a cron schedule counts only when it is due: there always is one.
        works = await self._broker.works_until(self._queues(), now + HORIZON) or await self._broker.works_until(
            dict.fromkeys(self._classes, (CRON_QUEUE,)), now
        )
        if self._broker.settled != self._settled or not works:
            self._settled = self._broker.settled
            self._reset()
        if works and self._without_progress >= HORIZON and self.ended_at is None:
            self.ended_at = self._broker.clock.time()
            logging.getLogger("agentq").warning("%s", self.notice)
        return works and self.ended_at is None

    def _reset(self) -> None:
        self._without_progress = 0.0
        self.ended_at = None

    def _queues(self) -> dict[str, Collection[str]]:
        return {name: {*cls.declared.queues, SCHEDULE_QUEUE} for name, cls in list(self._classes.items())}


def kernel_activity() -> Callable[[], None] | None:
    """Return a function that shows activity of this process's kernel; None without a kernel. Thread-safe.

    It publishes a small message that no page draws.
    """
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    kernel = getattr(shell, "kernel", None)
    session, socket = getattr(kernel, "session", None), getattr(kernel, "iopub_socket", None)
    if session is None or socket is None:
        return None

    def show() -> None:
        # Pages ignore messages of a comm that they do not know, and servers count them as activity.
        session.send(socket, "comm_msg", {"comm_id": _TARGET, "data": {}}, ident=b"comm")

    return show


def moment(seconds: float) -> str:
    """Return seconds since 1970 as date and time of day, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
