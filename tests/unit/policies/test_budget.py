"""Budgets: when requests pass, wait, or are refused, and in which period their money counts."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from agentq_nb import Budget
from agentq_nb._policies.budget import Spending, dollars
from agentq_nb._policies.rate_limit import RequestPace

TODAY = date(2026, 11, 30)


def test_requests_pass_until_the_budget_is_spent_then_wait_and_then_are_refused() -> None:
    spending = Spending(Budget(1.0, hold=10))
    spending.add("", 0.99)
    assert spending.judge("", 0) == "pass"
    spending.add("", 0.5)  # it was under way
    assert [spending.judge("", waited) for waited in (0, 9.9, 10)] == ["hold", "hold", "refuse"]
    assert spending.judge("", 0) == "refuse"  # nobody raised it while the first one waited


def test_raising_a_budget_lets_requests_pass_and_later_ones_wait_again() -> None:
    spending = Spending(Budget(1.0, hold=10))
    spending.add("", 1.5)
    assert spending.judge("", 10) == "refuse"
    spending.change(2.0)
    assert spending.judge("", 0) == "pass"
    spending.add("", 0.5)
    assert spending.judge("", 0) == "hold"
    spending.change(1.0)
    assert spending.judge("", 0) == "hold"


@pytest.mark.parametrize(
    ("per", "periods"),
    [(None, ["", "", ""]), ("day", ["2026-11-30"] * 3), ("batch", ["", "night", "other"])],
)
def test_money_counts_in_its_period_alone(per: Any, periods: list[str]) -> None:
    spending = Spending(Budget(1.0, per))
    assert [spending.period(TODAY, batch) for batch in (None, "night", "other")] == periods
    spending.add(periods[1], 1.0)
    assert [spending.judge(period, 0) for period in periods] == [
        "hold" if period == periods[1] else "pass" for period in periods
    ]


def test_a_budget_for_a_day_ends_at_midnight_and_the_others_never() -> None:
    now = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    assert Spending(Budget(1, "day")).ends_at(now) == datetime(2027, 1, 1, tzinfo=UTC)
    assert Spending(Budget(1, "batch")).ends_at(now) is None
    assert Spending(Budget(1)).ends_at(now) is None


def test_what_was_spent_and_raised_before_counts() -> None:
    spending = Spending(Budget(1.0), {"": 1.5}, usd=2.0)
    assert (spending.spent(""), spending.judge("", 0)) == (1.5, "pass")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"usd": 0}, "above 0"),
        ({"usd": float("inf")}, "above 0"),
        ({"usd": "20"}, "above 0"),
        ({"usd": True}, "above 0"),
        ({"usd": 1, "per": "week"}, "'day', 'batch' or None"),
        ({"usd": 1, "hold": -1}, "0 to 3600 seconds"),
        ({"usd": 1, "hold": 3601}, "0 to 3600 seconds"),
        ({"usd": 1, "hold": None}, "0 to 3600 seconds"),
    ],
    ids=str,
)
def test_what_is_no_budget_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Budget(**given)


@pytest.mark.parametrize(
    ("usd", "text"), [(20, "$20.00"), (1234.5, "$1,234.50"), (0.0031, "$0.0031"), (0.000012, "$1.2e-05"), (0, "$0.00")]
)
def test_amounts_are_shown_with_as_many_places_as_they_need(usd: float, text: str) -> None:
    assert dollars(usd) == text


def test_no_minute_has_more_requests_than_allowed() -> None:
    pace = RequestPace(requests=3, tokens=None)
    starts: list[float] = []
    now = 0.0
    for _ in range(10):
        now += pace.wait(now)
        pace.start(now)
        starts.append(now)
        now += 5
    assert all(later - earlier >= 60 for earlier, later in zip(starts, starts[3:], strict=False))
    assert starts[:4] == [0, 5, 10, 60]


def test_a_request_waits_while_the_minute_has_its_tokens() -> None:
    pace = RequestPace(requests=None, tokens=1000)
    pace.answered(0, 600)
    assert pace.wait(10) == 0
    pace.answered(10, 500)
    assert pace.wait(20) == 40  # until those of the first are a minute old
    assert pace.wait(60) == 0
    pace.answered(60, 5000)
    assert pace.wait(61) == 59
