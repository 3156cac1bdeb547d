"""Rate limits: never more than so many starts in any length of time. No I/O, no clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from agentq_nb._core.number_options import is_positive, is_whole

_MINUTE = 60.0  # seconds

_PROVIDERS = {"claude": "anthropic", "codex": "openai", "gemini": "google"}
"""By the names of agents."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``count`` starts in any ``per`` seconds: ``Queue(Task, limits=[RateLimit(50, per=60, name="anthropic")])``.

    :param count: how many messages may start.
    :param per: the length of the window, in seconds. The window slides: no interval of this length, wherever it begins,
        contains more than ``count`` starts.
    :param name: queues of the same host (on PostgreSQL of all hosts) that use the same name share one limit. None: each queue
        of each actor has its own.
    :param spread: whether starts are at least ``per / count`` seconds apart, instead of coming in bursts.
    :param scope: links this limit to a provider's own: ``RateLimit(50, per=60, name="anthropic", scope=agents.claude)``.
        Give an agent, a provider (``"anthropic"``) or a model (``"anthropic/opus"``, the name that the session shows). When
        the provider refuses such a prompt of a VM, every queue that names this limit is paused; and while this limit is
        paused, such prompts raise ``RateLimited`` without asking the provider. It needs a ``name``.

    Every delivery of a message counts as a start, including redeliveries; in a VM that has this limit in
    ``agent_os(limits=[...])``, every prompt counts too. When several messages are received at once, each of them counts.
    Starts are counted across restarts and crashes. Raises ValueError for values out of range.
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


class RequestPace:
    """Allows at most so many requests, and so many tokens, in any minute. Times are monotonic, in seconds.

    How many tokens a request takes is known when it has been answered: one may start while the window's tokens, of
    requests that were answered in the last minute, are below the limit.
    """

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        self._most_requests = requests
        self._most_tokens = tokens
        self._starts: deque[float] = deque()
        self._answers: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def wait(self, now: float) -> float:
        """Return for how many seconds the next request must wait; 0: it may start."""
        self._forget(now)
        wait = 0.0
        if self._most_requests is not None and len(self._starts) >= self._most_requests:
            wait = self._starts[len(self._starts) - self._most_requests] + _MINUTE - now
        if self._most_tokens is not None and self._tokens >= self._most_tokens:
            wait = max(wait, self._until_fewer(self._most_tokens) - now)
        return wait

    def start(self, now: float) -> None:
        """Count a request."""
        self._starts.append(now)

    def answered(self, now: float, tokens: int) -> None:
        """Count the tokens of a request."""
        self._answers.append((now, tokens))
        self._tokens += tokens

    def _until_fewer(self, most: int) -> float:
        left = self._tokens
        for answered_at, tokens in self._answers:
            left -= tokens
            if left < most:
                return answered_at + _MINUTE
        raise AssertionError("without answers there are no tokens")

    def _forget(self, now: float) -> None:
        while self._starts and now - self._starts[0] >= _MINUTE:
            self._starts.popleft()
        while self._answers and now - self._answers[0][0] >= _MINUTE:
            self._tokens -= self._answers.popleft()[1]
