"""Libraries that look at a handle to tell what it is find no table, connection or file."""

from __future__ import annotations

import pytest

from agentq_nb import Actor, action
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio

PROBED = ("cursor", "execute", "__array__", "__dataframe__", "_repr_html_", "_mime_", "to_pandas", "keys")


class Plain(Actor):
    @action
    async def add(self, number: int) -> int:
        return number + 1


class Runner(Actor):
    @action
    async def execute(self, text: str) -> str:
        return f"ran {text}"


async def test_a_handle_answers_no_probes_and_an_action_that_its_class_declares_always_works(world: World) -> None:
    client = await world.start(plain=Plain, runner=Runner)
    plain, runner = client.plain.get_or_create("a"), client.runner.get_or_create("a")
    assert [name for name in PROBED if hasattr(plain, name)] == []
    assert await plain.add(1) == 2
    assert [name for name in PROBED if hasattr(runner, name)] == ["execute"]
    assert await runner.execute("it") == "ran it"
