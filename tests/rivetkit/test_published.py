"""RivetKit's published driver tests, where there is a checkout of its repository, and how their report is judged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.rivetkit.published.__main__ import differences, judged, run

CHECKOUT = os.environ.get("AGENTQ_RIVETKIT_CHECKOUT")
DIFFERENT = "scheduled action can use c.db"


def report(**statuses: str) -> dict[str, Any]:
    tests = [
        {"title": title, "status": status, "ancestorTitles": ["encoding (bare)"], "failureMessages": ["it failed"]}
        for title, status in statuses.items()
    ]
    return {"testResults": [{"name": "/x/actor-schedule.test.ts", "assertionResults": tests}]}


def test_a_known_difference_is_counted_by_its_reason() -> None:
    result = judged(report(**{"one": "passed", "two": "passed", DIFFERENT: "failed"}))["actor-schedule.test.ts"]
    assert (result.passed, result.different.total(), result.unexpected) == (2, 1, [])
    assert [*result.different] == [differences()["actor-schedule.test.ts"][DIFFERENT]]


def test_any_other_failure_and_a_difference_that_is_gone_are_unexpected() -> None:
    result = judged(report(**{"one": "failed", "two": "skipped", DIFFERENT: "passed"}))["actor-schedule.test.ts"]
    assert result.passed == 0
    assert [line.split(":")[0] for line in result.unexpected] == [
        f"{each} (bare)" for each in ("one", "two", DIFFERENT)
    ]


def test_a_file_that_cannot_be_run_is_unexpected() -> None:
    broken = {"testResults": [{"name": "actor-run.test.ts", "assertionResults": [], "message": "no such module"}]}
    assert "no such module" in judged(broken)["actor-run.test.ts"].unexpected[0]


if CHECKOUT is not None:  # github.com/rivet-dev/rivet; without one this is no test, rather than one that is skipped

    @pytest.mark.anyio
    @pytest.mark.timeout(3600)
    async def test_only_known_differences_fail() -> None:
        results = await run(Path(CHECKOUT or ""), [])
        assert {file: result.unexpected for file, result in results.items() if result.unexpected} == {}
        assert set(results) == set(differences())
