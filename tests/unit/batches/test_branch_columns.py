"""Which replies count as naming a branch, and the columns that results get for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentq_nb._client.branch_columns import branches_of, with_branches
from agentq_nb._core.result_table import Table

NAMED: dict[str, Any] = {"reply": "did it", "branch": "agentq/a", "files": 2, "insertions": 12, "deletions": 3}


def table(*replies: Any) -> Table:
    rows = [(number, None if reply is None else json.dumps(reply)) for number, reply in enumerate(replies)]
    return Table(["number", "reply"], rows, ["INTEGER", "JSON"])


def test_rows_get_the_branch_and_the_size_that_their_replies_name() -> None:
    nothing = {**NAMED, "branch": None, "files": 0, "insertions": 0, "deletions": 0}
    found = with_branches(table(NAMED, None, "text", nothing))
    assert found.columns == ["number", "reply", "branch", "files", "insertions", "deletions"]
    assert [row[2:] for row in found.rows] == [("agentq/a", 2, 12, 3), (None,) * 4, (None,) * 4, (None, 0, 0, 0)]
    frame = found.frame()
    assert [str(kind) for kind in frame.dtypes[3:]] == ["Int64"] * 3
    assert frame["reply"][0] == NAMED


@pytest.mark.parametrize(
    "reply",
    [
        {name: value for name, value in NAMED.items() if name != "files"},
        {**NAMED, "branch": 5},
        {**NAMED, "insertions": "many"},
        {**NAMED, "deletions": True},
        {"deeper": NAMED},
        [NAMED],
        '"insertions"',
        None,
    ],
)
def test_replies_of_another_kind_add_no_columns(reply: Any) -> None:
    without = table(reply)
    assert branches_of(without) == [None]
    assert with_branches(without) is without
