"""Which actor classes a notebook's namespace claims, and under which names. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentq_nb import naming
from agentq_nb.actor import Actor
from agentq_nb.errors import AgentqError


class NameClaimedTwice(AgentqError):
    """Two actor classes of the notebook would be registered under one name."""

    group = "actor"
    code = "name_claimed_twice"


def claims(namespace: Mapping[str, Any]) -> dict[str, type[Actor]]:
    """The classes by the names they are registered under. Raises NameClaimedTwice.

    A class defined in the notebook claims the snake_case of its own name, whatever variables it is bound to; one that
    was made by a call (``vm = agent_os(…)``) claims the variable's. Imported classes claim nothing.
    """
    found: dict[str, type[Actor]] = {}
    for variable, value in list(namespace.items()):
        if variable.startswith("_") or not isinstance(value, type) or not issubclass(value, Actor):
            continue
        name = _name(variable, value, namespace)
        if name is None:
            continue
        if found.setdefault(name, value) is not value:
            raise NameClaimedTwice(
                f"Two actor classes claim the name '{name}': {found[name].__qualname__} and {value.__qualname__} "
                f"(variable {variable}). Rename one of them, or delete it with: del {variable}"
            )
    return found


def changed(before: Mapping[str, type[Actor]], after: Mapping[str, type[Actor]]) -> dict[str, type[Actor]]:
    """What a cell defined or redefined."""
    return {name: actor for name, actor in after.items() if before.get(name) is not actor}


def _name(variable: str, actor: type[Actor], namespace: Mapping[str, Any]) -> str | None:
    if actor.__module__ == "__main__":
        # An older version that a variable still holds is not what the notebook means by this name.
        current = namespace.get(actor.__name__, actor)
        return naming.snake_case(actor.__name__) if current is actor else None
    return variable if _made_by_a_call(actor) else None


def _made_by_a_call(actor: type[Actor]) -> bool:
    """``agent_os(…)`` makes classes that no module holds under their name."""
    import sys

    module = sys.modules.get(actor.__module__)
    return actor.__module__.startswith("agentq_nb.") and getattr(module, actor.__name__, None) is not actor
