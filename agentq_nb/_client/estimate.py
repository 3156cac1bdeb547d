"""What a batch will cost, judged by its first rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from agentq_nb._brokers.batches import BatchRow
from agentq_nb._core.message_status import LIVE
from agentq_nb._policies.budget import dollars

_TWO_SIDED = 1.96  # standard errors on each side hold 95 % of what is to be expected


@dataclass(frozen=True)
class Estimate:
    """What a batch has cost, and is expected to cost in the end, in US dollars.

        estimate = await batch.estimate()
        print(estimate)                         # about $3.20 ($2.90 to $3.50): $0.64 for 6 of 30 rows so far

    :ivar rows: how many rows the batch has; ``done``: how many of them are settled.
    :ivar spent: what it has cost so far.
    :ivar tokens: how many tokens it has taken so far.
    :ivar per_row: what a row that is done has cost on average; None before the first.
    :ivar total: what the batch is expected to cost; None before the first row is done.
    :ivar low: with ``high``, where that is to be expected in 95 of 100 cases; None before the second row is done.
    """

    rows: int
    done: int
    spent: float
    tokens: int
    per_row: float | None = None
    total: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        so_far = f"{dollars(self.spent)} for {self.done} of {self.rows} rows so far"
        if self.total is None:
            return f"no row is done yet: {so_far}"
        between = "" if self.low is None or self.high is None else f" ({dollars(self.low)} to {dollars(self.high)})"
        return f"about {dollars(self.total)}{between}: {so_far}"


def estimate_of(rows: Sequence[BatchRow]) -> Estimate:
    """Return the estimate that follows from these rows. Requests without a known price cost nothing here."""
    settled = [row.cost or 0.0 for row in rows if row.result.status not in LIVE]
    spent, tokens = sum(row.cost or 0.0 for row in rows), sum(row.tokens or 0 for row in rows)
    if not settled:
        return Estimate(len(rows), 0, spent, tokens)
    per_row, left = statistics.fmean(settled), len(rows) - len(settled)
    done = sum(settled)
    estimate = Estimate(len(rows), len(settled), spent, tokens, per_row, max(spent, done + left * per_row))
    if len(settled) < 2:
        return estimate
    error = _TWO_SIDED * statistics.stdev(settled) / math.sqrt(len(settled))
    low, high = (max(spent, done + left * (per_row + sign * error)) for sign in (-1, 1))
    return Estimate(estimate.rows, estimate.done, spent, tokens, per_row, estimate.total, low, high)
