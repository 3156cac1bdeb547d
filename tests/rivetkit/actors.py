"""The actors by the names under which RivetKit's driver tests know them, in Python's spelling."""

from __future__ import annotations

import inspect

from agentq_nb import Actor
from agentq_nb._core.ids import snake_case
from tests.rivetkit import action_actors, lifecycle_actors, queue_actors, state_actors


def _found() -> dict[str, type[Actor]]:
    found: dict[str, type[Actor]] = {}
    for module in (queue_actors, action_actors, lifecycle_actors, state_actors):
        for name, value in vars(module).items():
            if name.startswith("_") or not inspect.isclass(value) or not issubclass(value, Actor):
                continue
            if value.__module__ == module.__name__:
                found[snake_case(name)] = value
    return found


ACTORS = _found()
