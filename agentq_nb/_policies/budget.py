"""Budgets of money: when requests to a language model wait, when they are refused, and what was spent. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal, TypeAlias, get_args

from agentq_nb._core.number_options import is_delay, is_positive

Per: TypeAlias = Literal["day", "batch"]
Verdict: TypeAlias = Literal["pass", "hold", "refuse"]

_LONGEST_HOLD = 3600.0


@dataclass(frozen=True, slots=True)
class Budget:
    """At most this much money for a language model: ``LLM("anthropic", budget=Budget(usd=20, per="day"))``.

    :param usd: US dollars.
    :param per: ``"day"``: for each day, by the machine's clock; ``"batch"``: for each batch, and once for all that is not
        part of one; None: once, for everything that the file remembers.
    :param hold: how many seconds a request waits, once the budget is spent, until it is raised. Then the prompt is
        cancelled, its message goes back to its queue without losing an attempt, and the queue pauses.

    ``%agentq budget 40`` raises it, and work continues. Requests that are under way when it is spent are completed, so it is
    overrun by these at most. What was spent survives restarts. Requests to models without a known price count nothing.
    Raises ValueError for values out of range.
    """

    usd: float
    per: Per | None = None
    hold: float = 300.0

    def __post_init__(self) -> None:
        check_usd(self.usd, "Budget(usd)")
        if self.per is not None and self.per not in get_args(Per):
            raise ValueError(f"Budget(per=...) is 'day', 'batch' or None, not {self.per!r:.100}.")
        if not is_delay(self.hold) or self.hold > _LONGEST_HOLD:
            raise ValueError(f"Budget(hold=...) is 0 to {_LONGEST_HOLD:g} seconds, not {self.hold!r:.100}.")

    def __str__(self) -> str:
        return f"{dollars(self.usd)}{f' a {self.per}' if self.per else ''}"


def check_usd(usd: object, name: str) -> None:
    """Raise ValueError unless it is an amount of money above 0."""
    if not is_positive(usd) or usd == math.inf:
        raise ValueError(f"{name} is an amount in US dollars above 0, not {usd!r:.100}.")


def dollars(usd: float) -> str:
    """Return an amount as text: ``$20.00``, or ``$0.0031`` where cents are too coarse."""
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.2g}" if usd < 0.001 else f"${usd:.4f}"


class Spending:
    """What was spent under a budget, in its present periods.

    :ivar usd: the limit in force, which may have been raised.
    """

    def __init__(self, budget: Budget, spent: Mapping[str, float] | None = None, usd: float | None = None) -> None:
        self.budget = budget
        self.usd = budget.usd if usd is None else usd
        self._spent = dict(spent or {})
        self._given_up: set[str] = set()
        """The periods in which a request was held in vain: the next ones are refused at once."""

    def period(self, today: date, batch: str | None) -> str:
        """Return the period that a request counts in."""
        if self.budget.per is None:
            return ""
        return today.isoformat() if self.budget.per == "day" else batch or ""

    def spent(self, period: str) -> float:
        """Return the US dollars that were spent in a period."""
        return self._spent.get(period, 0.0)

    def dearest(self) -> str:
        """Return the period in which most was spent."""
        return max(list(self._spent), key=self.spent, default="")  # another thread may add periods

    def add(self, period: str, usd: float) -> None:
        """Count the cost of a request."""
        self._spent[period] = self.spent(period) + usd

    def judge(self, period: str, waited: float) -> Verdict:
        """Decide about a request that has waited this many seconds."""
        if self.spent(period) < self.usd:
            return "pass"
        if period not in self._given_up and waited < self.budget.hold:
            return "hold"
        self._given_up.add(period)
        return "refuse"

    def change(self, usd: float) -> None:
        """Change the limit; requests are judged by the new one from now on."""
        self.usd = usd
        self._given_up.clear()

    def ends_at(self, now: datetime) -> datetime | None:
        """Return when the next period begins by itself; None if only a user can end the wait. ``now`` is local time."""
        if self.budget.per != "day":
            return None
        return datetime.combine(now.date() + timedelta(days=1), time(), now.tzinfo)
