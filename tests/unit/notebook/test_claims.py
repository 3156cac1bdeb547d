"""The classes of a notebook that are registered, under which names, and those that a cell deploys at its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._commands.actor_classes import NameClaimedTwice, claims
from agentq_nb._notebook import deploy_classes
from agentq_nb._notebook.deploy_classes import Deployments, changed


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


ENDED_WELL: Any = SimpleNamespace(success=True)


class Host:
    """A registry and its host; notes what is deployed, and which queues are paused."""

    running = True

    def __init__(self, *waiting: QueueStatus, background: bool = False, **classes: type[Actor]) -> None:
        self.classes = classes
        self.waiting = waiting
        self.host = self
        self.broker = self
        self.portal = SimpleNamespace(inside=not background)
        self.deployed: list[tuple[str, type[Actor]]] = []
        self.changes: list[object] = []

    async def deploy(self, name: str, cls: type[Actor]) -> None:
        self.deployed.append((name, cls))

    async def states(self, name: str) -> list[Any]:
        return []

    async def status(self, *, totals: bool = True) -> tuple[QueueStatus, ...]:
        return self.waiting

    async def change(self, actor: str, change: object) -> None:
        self.changes.append(change)


def runs(host: Host | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_classes, "_running_registry", lambda: host)


@pytest.mark.anyio
async def test_a_new_class_of_a_failed_cell_is_deployed_and_its_earlier_work_is_not_paused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Host(QueueStatus("fresh/main", "tasks", ready=1))
    runs(host, monkeypatch)
    namespace: dict[str, Any] = {}
    deployments = Deployments(namespace)
    deployments.registers_new = True
    deployments.cell_begins()
    namespace["Fresh"] = defined_in_notebook("Fresh")
    deployments.cell_ends(None)
    assert host.deployed == [("fresh", namespace["Fresh"])]
    assert host.changes == []


@pytest.mark.anyio
async def test_a_redefined_class_is_deployed_under_the_name_that_it_was_registered_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    former, later = made_by_agent_os(), made_by_agent_os()
    namespace = {"vm": former}
    deployments = Deployments(namespace)
    runs(None, monkeypatch)
    deployments.cell_begins()
    host = Host(machine=former, other=made_by_agent_os())
    runs(host, monkeypatch)
    namespace["vm"] = later
    deployments.cell_ends(ENDED_WELL)
    assert host.deployed == [("machine", later)]


def test_a_cell_that_defines_nothing_waits_for_no_host_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(background=True)
    runs(host, monkeypatch)
    deployments = Deployments({})
    deployments.cell_begins()
    deployments.cell_ends(ENDED_WELL)
    assert host.deployed == []
