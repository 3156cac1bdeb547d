"""Paths of a notebook's store and workspaces, which are kept beside it. Pure functions of paths and the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentq_nb._core.programs import (
    Command,
    executed_notebook,
    is_engine,
    is_kernel,
    kernel_of_shell,
    marimo_mode,
    parent_command,
    voila_notebook,
)
from agentq_nb._core.redaction import without_passwords
from agentq_nb.errors import ValidationFailed

SUFFIX = ".agentq.duckdb"
"""The store of ``analysis.ipynb`` is ``analysis.agentq.duckdb``."""

DEFAULT_NAME = "agentq.duckdb"
"""The store of a program, or of a notebook whose own path is not known, in the working directory."""

_NOTEBOOKS = (".ipynb", ".py", ".md", ".Rmd", ".qmd", ".R", ".jl")
"""File types of notebooks: Jupytext opens text files as notebooks."""

VARIABLE = "AGENTQ_DB"
"""The environment variable that names the store."""


_SERVERS = ("postgresql://", "postgres://")
_NEARLY_AN_ADDRESS = re.compile(r"\W*postgres\w*(\+\w+)?:/", re.IGNORECASE)


def is_address(store: object) -> bool:
    """Whether a store is named by the address of a PostgreSQL server, and not by a path."""
    return isinstance(store, str) and store.startswith(_SERVERS)


def store_path(
    explicit: str | Path | None, environ: Mapping[str, str], notebook: Path | None
) -> tuple[Path, str | None]:
    """Return the absolute path of the store, and a notice for the user when it had to be guessed.

    In order of preference: the explicit path, the variable ``AGENTQ_DB``, a file beside the notebook, ``agentq.duckdb``
    in the working directory. If the address of a server is given, the file is one of the latter two. Raises
    ``actor.validation_error`` for what looks like an address of a PostgreSQL server and is none.
    """
    asked = explicit or environ.get(VARIABLE)
    if asked and not is_address(asked):
        if _NEARLY_AN_ADDRESS.match(str(asked)):
            raise ValidationFailed(
                f"The address of a PostgreSQL server begins with postgresql://, unlike {without_passwords(str(asked))}"
            )
        return _absolute(asked), None
    if notebook is not None:
        return _absolute(store_beside(notebook)), None
    guessed = _absolute(DEFAULT_NAME)
    return guessed, (
        f"The notebook's own path is not known here, so its queues are kept in {guessed}. "
        f"Give a path to keep them elsewhere: setup(store=PATH), %agentq start --store PATH, or the variable {VARIABLE}."
    )


def queues_address(explicit: str | Path | None, environ: Mapping[str, str]) -> str | None:
    """Return the address of the PostgreSQL server that has the queues; None: they are in the store's file."""
    asked = explicit or environ.get(VARIABLE)
    return asked if isinstance(asked, str) and is_address(asked) else None


def store_beside(notebook: Path) -> Path:
    """Return the path of a notebook's store."""
    return notebook.with_name(f"{notebook.stem}{SUFFIX}")


def notebook_of(store: Path) -> Path | None:
    """Return the notebook that a store belongs to by its name, if it exists: an ``.ipynb``, or a text notebook."""
    stem = store.name.removesuffix(SUFFIX)
    candidates = (store.with_name(f"{stem}{suffix}") for suffix in _NOTEBOOKS)
    return next((path for path in candidates if path.is_file()), None)


def workspaces_path(store: Path) -> Path:
    """Return the folder of a store's workspaces: ``name.agentq`` beside ``name.agentq.duckdb``."""
    name = store.name
    for suffix in (SUFFIX, ".duckdb", ".db"):
        if name.endswith(suffix) and name != suffix:
            name = name.removesuffix(suffix)
            break
    return store.with_name(f"{name}.agentq")


def notebook_path(environ: Mapping[str, str], user_namespace: Mapping[str, Any]) -> Path | None:
    """Return the absolute path of the notebook that runs in this process, as far as its front end says.

    VS Code says it in the namespace, JupyterLab and Notebook in the environment (which keeps the old name after a
    rename, until the kernel restarts), Voila, papermill and nbconvert by their command line. A marimo notebook is the
    main program. None elsewhere: Colab, a console, a program that executes notebooks, a script.
    """
    launcher = parent_command(environ)
    if (executed := voila_notebook(environ) or executed_notebook(launcher)) is not None:
        return executed
    said = user_namespace.get("__vsc_ipynb_file__")
    if said is None and marimo_mode() is not None:
        said = user_namespace.get("__file__")
    elif said is None and _speaks_of_this_kernel(launcher):
        said = environ.get("JPY_SESSION_NAME")
    if not isinstance(said, str):
        return None
    path = Path(said)
    # Jupytext opens .py and .md files as notebooks; a console's session name is not a file.
    is_notebook = path.suffix == ".ipynb" or path.is_file()
    return path if path.is_absolute() and path.parent.is_dir() and is_notebook else None


def _speaks_of_this_kernel(launcher: Command | None) -> bool:
    """Whether the environment describes this process, and not the kernel whose code launched it."""
    kernel = kernel_of_shell()
    return kernel is not None and not is_engine(kernel) and not is_kernel(launcher)


def _absolute(path: str | Path) -> Path:
    # An unknown user's ~name is left as it is; Path.expanduser raises RuntimeError there.
    return Path(os.path.expanduser(path)).absolute()
