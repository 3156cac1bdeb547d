"""When ``agentq watch`` takes a status for changed."""

from __future__ import annotations

import pytest

from agentq_nb._commands.catalog import read_arguments
from agentq_nb._commands.parser import UsageError
from agentq_nb._commands.watch import lasting

STATUS = """\
agentq host

running for  3.6 s
runs in      the kernel's event loop

actor          state  queue  done    failed  waiting  per min  time left  oldest  problem
-------------  -----  -----  ------  ------  -------  -------  ---------  ------  -----------------
reviewer/main  awake  tasks  1 of 4       1        2       17  11.0 s     3.5 s   ValueError: it is
"""

LATER = """\
agentq host

running for  1 min 12 s
runs in      the kernel's event loop

actor          state  queue  done    failed  waiting  per min  problem
-------------  -----  -----  ------  ------  -------  -------  -----------------
reviewer/main  awake  tasks  1 of 4       1        2      3.4  ValueError: it is
"""


def test_durations_and_rates_are_no_change() -> None:
    assert lasting(STATUS) == lasting(LATER)
    assert "reviewer/main awake tasks 1 of 4 1 2 ValueError: it is" in lasting(STATUS)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1 of 4", "2 of 4"),
        ("awake", "asleep"),
        ("  2       17", "  3       17"),
        ("it is", "it was"),
        ("kernel's", "x"),
    ],
)
def test_everything_else_is_a_change(before: str, after: str) -> None:
    assert before in STATUS
    assert lasting(STATUS.replace(before, after)) != lasting(STATUS)


@pytest.mark.parametrize("every", ["0", "0.01", "-1", "soon", "nan", "inf"])
def test_an_interval_that_would_only_burn_time_is_refused(every: str) -> None:
    with pytest.raises(UsageError, match=r"--every is a number of seconds"):
        read_arguments(["watch", "--every", every])
