"""Which classes of a notebook are registered, and under which names."""

from __future__ import annotations

from typing import Any

import pytest

from agentq_nb._actor.actor import Actor
from agentq_nb._notebook.deploy_classes import NameClaimedTwice, changed, claims


def defined_in_notebook(name: str) -> type[Actor]:
    return type(name, (Actor,), {"__module__": "__main__"})


def made_by_agent_os() -> type[Actor]:
    return type("AgentOs", (Actor,), {"__module__": "agentq_nb.agent_os.vm"})


def test_classes_of_the_notebook_claim_their_snake_case_name() -> None:
    runner = defined_in_notebook("TaskRunner")
    assert claims({"TaskRunner": runner, "alias": runner, "x": 1, "str": str}) == {"task_runner": runner}


def test_made_classes_claim_the_name_of_their_variable() -> None:
    vm = made_by_agent_os()
    assert claims({"vm": vm, "_": vm, "_3": vm}) == {"vm": vm}


def test_imported_classes_claim_nothing() -> None:
    class Imported(Actor):
        pass

    assert claims({"Actor": Actor, "Imported": Imported}) == {}


def test_an_older_version_that_a_variable_still_holds_claims_nothing() -> None:
    old, new = defined_in_notebook("TaskRunner"), defined_in_notebook("TaskRunner")
    assert claims({"former": old, "TaskRunner": new}) == {"task_runner": new}


@pytest.mark.parametrize(
    "namespace",
    [
        {"TaskRunner": defined_in_notebook("TaskRunner"), "Task_Runner": defined_in_notebook("Task_Runner")},
        {"vm": made_by_agent_os(), "VM": defined_in_notebook("VM")},
    ],
)
def test_two_claims_to_one_name_are_an_error_that_names_both(namespace: dict[str, Any]) -> None:
    with pytest.raises(NameClaimedTwice, match="Two actor classes claim the name"):
        claims(namespace)


def test_only_what_a_cell_defined_anew_has_changed() -> None:
    same, old, new, more = (defined_in_notebook(name) for name in ("Same", "Other", "Other", "More"))
    before, after = {"same": same, "other": old}, {"same": same, "other": new, "more": more}
    assert changed(before, after) == {"other": new, "more": more}
