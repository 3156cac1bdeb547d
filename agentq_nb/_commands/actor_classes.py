"""The actor classes that a notebook or a module defines, and loading those of a program that ``agentq run`` hosts."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentq_nb._actor.actor import Actor
from agentq_nb._commands.parser import UsageError
from agentq_nb._core import ids
from agentq_nb._core.paths import DEFAULT_NAME, VARIABLE
from agentq_nb._host.registry import Registry, current_registry
from agentq_nb._host.setup import setup
from agentq_nb.errors import AgentqError

if TYPE_CHECKING:
    from types import ModuleType


class NameClaimedTwice(AgentqError):
    """Two actor classes of a notebook or a module would be registered under one name."""

    group = "actor"
    code = "name_claimed_twice"


class ProgramFailed(AgentqError):
    """A module that was to be hosted could not be imported, or a cell of a notebook failed."""

    code = "program_failed"


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


def load_program(program: str, store: str | None) -> Registry:
    """Return the registry of a module's or a notebook's actors, to be started in the background.

    Raises UsageError if there is nothing of this name, or nothing to host in it; ProgramFailed.
    """
    if program.endswith(".ipynb"):
        return _of_notebook(_existing(program), store)
    before = current_registry()
    module = _import_file(_existing(program)) if program.endswith(".py") else _import_name(program)
    own = current_registry()
    if own is None or own is before:
        chosen = store or os.environ.get(VARIABLE) or DEFAULT_NAME
        return setup(use=_some(claims(vars(module), module.__name__), program), store=chosen, background=True)
    if store is not None:
        raise UsageError(f"{program} chooses its file itself, with setup(...): --store cannot change that.")
    return setup(store=own.store_path, background=True)


def _existing(program: str) -> Path:
    path = Path(program).expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    return path


def _import_file(path: Path) -> ModuleType:
    """Import a file as Python would import it from a program in its folder."""
    sys.path.insert(0, str(path.parent))
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise UsageError(f"{path} is no Python module.")
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise ProgramFailed(f"{path} could not be imported: {type(error).__name__}: {error}") from error
    return module


def _import_name(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"There is no module {name}, neither here nor installed. A file ends in .py or .ipynb."
            ) from None
        raise ProgramFailed(f"{name} could not be imported: {error}") from error
    except Exception as error:
        raise ProgramFailed(f"{name} could not be imported: {type(error).__name__}: {error}") from error


def _of_notebook(path: Path, store: str | None) -> Registry:
    from agentq_nb._commands.notebook_cells import NotebookCells

    cells = NotebookCells(path)
    registry = setup(store=store, background=True)
    cells.run()
    own = current_registry() or registry
    own.register(_new(own, claims(cells.namespace)))
    _some(own.classes, str(path))
    return own


def _new(registry: Registry, found: Mapping[str, type[Actor]]) -> dict[str, type[Actor]]:
    return {name: cls for name, cls in found.items() if registry.classes.get(name) is not cls}


def _some(found: Mapping[str, type[Actor]], program: str) -> Mapping[str, Any]:
    if not found:
        raise UsageError(
            f"{program} defines no actor class: nothing in it can be hosted. Imported classes count only if it gives them "
            "to setup(use={...})."
        )
    return found
