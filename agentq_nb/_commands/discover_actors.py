"""Find the actor classes that a notebook or a module defines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._core import ids
from agentq_nb.errors import AgentqError


class NameClaimedTwice(AgentqError):
    """Two actor classes of a notebook or a module would be registered under one name."""

    group = "actor"
    code = "name_claimed_twice"


def claims(namespace: Mapping[str, Any], module: str = "__main__") -> dict[str, type[Actor]]:
    """Return the namespace's actor classes by the names to register them under. Raises NameClaimedTwice.

    A class defined in the notebook, or in the ``module`` of the namespace, gets the snake_case of its own name, whatever
    variables it is bound to; one that was made by a call (``vm = agent_os(…)``) gets the variable's name. Imported classes
    get none.
    """
    found: dict[str, type[Actor]] = {}
    for variable, value in list(namespace.items()):
        if variable.startswith("_") or not isinstance(value, type) or not issubclass(value, Actor):
            continue
        name = _name(variable, value, namespace, module)
        if name is None:
            continue
        if found.setdefault(name, value) is not value:
            raise NameClaimedTwice(
                f"Two actor classes claim the name '{name}': {found[name].__qualname__} and {value.__qualname__} "
                f"(variable {variable}). Rename one of them, or delete it with: del {variable}"
            )
    return found


def _name(variable: str, actor: type[Actor], namespace: Mapping[str, Any], module: str) -> str | None:
    if actor.__module__ == module:
        # Ignore an older version of the class that another variable still holds.
        current = namespace.get(actor.__name__, actor)
        return ids.snake_case(actor.__name__) if current is actor else None
    return variable if _made_by_a_call(actor) else None


def _made_by_a_call(actor: type[Actor]) -> bool:
    """Whether a function such as ``agent_os(…)`` made the class: then no module has it under its name."""
    module = sys.modules.get(actor.__module__)
    return actor.__module__.startswith("agentq_nb.") and getattr(module, actor.__name__, None) is not actor
