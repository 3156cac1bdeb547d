"""What is found with the keyboard: names that complete, signatures, and what was meant by a name that is nearly right."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, action, agent_os, agents, current_registry
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio


class Reviewer(Actor):
    tasks = Queue(str)

    @action
    async def rate(self, stars: int, *, why: str = "") -> int:
        """Say how good it was."""
        return stars

    async def not_an_action(self) -> None: ...


async def test_a_client_completes_the_names_of_its_actors(world: World) -> None:
    client = await world.start(reviewer=Reviewer, vm=agent_os(isolation="off"))
    assert {"reviewer", "vm", "receipt", "actor"} <= set(dir(client))
    registry = current_registry()
    assert registry is not None
    await registry.stop()
    assert "receipt" in dir(client)


async def test_a_handle_completes_the_actions_of_its_class(world: World) -> None:
    client = await world.start(reviewer=Reviewer, vm=agent_os(isolation="off"))
    handle = client.reviewer.get_or_create("x")
    assert {"rate", "send", "status"} <= set(dir(handle))
    assert not {"not_an_action", "run", "tasks", "exec"} & set(dir(handle))
    assert {"exec", "read_file", "send_prompt"} <= set(dir(client.vm.get_or_create("x")))
    assert "rate" not in dir(client.unknown.get_or_create("x"))


async def test_an_action_of_a_handle_has_the_signature_and_the_docstring_of_its_function(world: World) -> None:
    client = await world.start(reviewer=Reviewer, vm=agent_os(isolation="off"))
    rate = client.reviewer.get_or_create("x").rate
    assert list(inspect.signature(rate).parameters) == ["stars", "why"]
    assert rate.__doc__ == "Say how good it was."
    assert await rate(3, why="short") == 3
    execute: Any = client.vm.get_or_create("x").exec
    assert "command" in str(inspect.signature(execute))
    assert execute.__doc__


def test_agents_completes_no_modules() -> None:
    assert set(dir(agents)) == set(agents.__all__)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda client: client.reviwer.get_or_create("x").rate(1), "Did you mean 'reviewer'?"),
        (lambda client: client.reviewer.get_or_create("x").rat(1), "Did you mean 'rate'?"),
        (lambda client: client.reviewer.get_or_create("x").send("task", "a"), "Did you mean 'tasks'?"),
    ],
)
async def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(world: World, call: Any, meant: str) -> None:
    client = await world.start(reviewer=Reviewer)
    with pytest.raises(AgentqError) as caught:
        await call(client)
    assert meant in caught.value.message


async def test_a_name_like_no_other_is_answered_with_all_there_are(world: World) -> None:
    client = await world.start(reviewer=Reviewer)
    with pytest.raises(AgentqError) as caught:
        await client.reviewer.get_or_create("x").zzz()
    assert "Did you mean" not in caught.value.message
    assert "rate" in caught.value.message
