"""Which of the options that an agent offers says what the user answered."""

from __future__ import annotations

import pytest
from acp.schema import PermissionOption

from agentq_nb.agent_os.agents.acp.wire import option_for


def options(*kinds: str) -> list[PermissionOption]:
    return [PermissionOption(option_id=f"id-{kind}", name=kind, kind=kind) for kind in kinds]  # type: ignore[arg-type]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("answer", "chosen"), [("allow", "id-allow_once"), ("deny", "id-reject_once")])
def test_an_answer_is_for_this_time_only(answer: str, chosen: str, backwards: bool) -> None:
    offered = options("allow_always", "allow_once", "reject_always", "reject_once")
    option = option_for(offered[::-1] if backwards else offered, answer)
    assert option is not None
    assert option.option_id == chosen


@pytest.mark.parametrize(("answer", "chosen"), [("allow", "id-allow_always"), ("deny", "id-reject_always")])
def test_where_there_is_no_such_option_it_is_for_good(answer: str, chosen: str) -> None:
    option = option_for(options("allow_always", "reject_always"), answer)
    assert option is not None
    assert option.option_id == chosen


@pytest.mark.parametrize(
    ("answer", "offered"), [("allow", "reject_once"), ("deny", "allow_once"), ("deny", "allow_always")]
)
def test_the_opposite_is_never_chosen(answer: str, offered: str) -> None:
    assert option_for(options(offered), answer) is None
