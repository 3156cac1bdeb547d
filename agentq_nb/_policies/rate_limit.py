"""Rate limits: never more than so many starts in any length of time. No I/O, no clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from agentq_nb._core.number_options import is_positive, is_whole

_PROVIDERS = {"claude": "anthropic", "codex": "openai", "gemini": "google"}
"""By the names of agents."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``count`` starts in any ``per`` seconds: ``Queue(Task, limits=[RateLimit(50, per=60, name="anthropic")])``.

    :param count: how many messages may start.
    :param per: the length of the window, in seconds. The window slides: no interval of this length, wherever it begins,
        contains more than ``count`` starts.
    :param name: queues of the same host that use the same name share one limit. None: each queue of each actor has its own.
    :param spread: whether starts are at least ``per / count`` seconds apart, instead of coming in bursts.
    :param scope: the prompts of VMs that share a provider's limit with this one: those of one agent, such as
        ``agents.claude``, or those to a provider, ``"anthropic"``, or to one of its models, ``"anthropic/opus"`` (the
        name that the session shows). When such a prompt meets the provider's limit, every queue that names this limit is
        paused; and while this limit is paused, such prompts raise ``RateLimited`` without asking the provider. It needs
        a ``name``. Prompts count as starts only in VMs with ``agent_os(limits=[...])``.

    Every delivery of a message counts as a start, including redeliveries, and in VMs every prompt. When several messages
    are received at once, each of them counts. Starts are counted across restarts and crashes. Raises ValueError for values out of range.
    """

    count: int
    per: float
    name: str | None = None
    spread: bool = False
    scope: object = None

    def __post_init__(self) -> None:
        if not is_whole(self.count):
            raise ValueError(f"RateLimit(count) must be a whole number from 1 up, not {self.count!r:.100}.")
        if not is_positive(self.per) or self.per == math.inf:
            raise ValueError(f"RateLimit(per=...) must be more than 0 seconds, not {self.per!r:.100}.")
        check_limit_name(self)
        if self.scope is not None:
            object.__setattr__(self, "scope", _checked_scope(self.scope, self.name))

    def binds(self, provider: str, model: str | None) -> bool:
        """Whether prompts to this model of the provider share the provider's limit with it."""
        return self.scope is not None and self.scope in (provider, f"{provider}/{model}")

    def __str__(self) -> str:
        more = (", spread" if self.spread else "") + (f", scope {self.scope}" if self.scope else "")
        return f"{self.count} per {self.per:g} s{more}"


def check_limit_name(limit: object) -> None:
    """Raise ValueError unless the limit's name is None or a text without white space at its ends."""
    name = getattr(limit, "name", None)
    if name is not None and (not isinstance(name, str) or not name or name != name.strip() or not name.isprintable()):
        raise ValueError(f"{type(limit).__name__}(name=...) must be a short text, like 'anthropic', not {name!r:.100}.")


def provider_of(agent: str) -> str:
    """Return the provider whose models an agent uses; another agent's name stays as it is."""
    return _PROVIDERS.get(agent, agent)


def _checked_scope(scope: object, name: str | None) -> str:
    text = scope if isinstance(scope, str) else getattr(scope, "name", None)
    if not isinstance(text, str) or not text or text != text.strip():
        raise ValueError(
            f"RateLimit(scope=...) is an agent, such as agents.claude, or a provider, such as 'anthropic', "
            f"not {scope!r:.100}."
        )
    if name is None:
        raise ValueError("RateLimit(scope=...) needs a name, which the queues to pause share.")
    return provider_of(text)


class Window:
    """The starts that still count. All times are monotonic, in seconds, and come in their order.

    A start that is being written is *pending*: it counts as if it happened just now, for as long as its time is unknown.
    """

    def __init__(self, count: int, per: float, *, spread: bool = False, starts: Iterable[float] = ()) -> None:
        self.count = count
        self.per = per
        self.spread = spread
        self.pending = 0
        self._starts: deque[float] = deque(sorted(starts))

    @property
    def starts(self) -> tuple[float, ...]:
        """The starts that count, without pending ones."""
        return tuple(self._starts)

    def next_start(self, now: float) -> float:
        """Return the earliest time of the next start; infinite while that depends on pending starts."""
        self._forget(now)
        free = self.count - self.pending
        if free <= 0:
            return math.inf
        starts = self._starts
        earliest = now if len(starts) < free else starts[len(starts) - free] + self.per
        if self.spread:
            if self.pending:
                return math.inf
            if starts:
                earliest = max(earliest, starts[-1] + self.per / self.count)
        return max(now, earliest)

    def room(self, now: float) -> int:
        """Return how many starts are allowed at once."""
        if self.next_start(now) > now:
            return 0
        return 1 if self.spread else self.count - self.pending - len(self._starts)

    def used(self, now: float) -> int:
        """Return how many starts the window holds."""
        self._forget(now)
        return self.pending + len(self._starts)

    def start(self, now: float) -> None:
        """Count one start."""
        self._forget(now)
        starts = self._starts
        starts.append(now if not starts else max(now, starts[-1]))

    def change(self, count: int, per: float, starts: Iterable[float]) -> None:
        """Change the limit. ``starts`` are all that the new window may hold, without the pending ones."""
        self.count, self.per = count, per
        self._starts = deque(sorted(starts))

    def _forget(self, now: float) -> None:
        starts = self._starts
        while starts and now - starts[0] >= self.per:
            starts.popleft()


def since_restart(age: float, now: float) -> float:
    """Return the monotonic time of a start that was stored ``age`` seconds ago by the wall clock.

    The clock may have been set back since: what seems to come later than now counts as now.
    """
    return now - max(0.0, age)
