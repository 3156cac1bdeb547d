"""Check the front end: whether the notebook's path is known, and whether it can show widgets."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentq_nb._commands.doctor.diagnosis import Check
from agentq_nb._core.paths import DEFAULT_NAME, notebook_path

_MANAGER = Path("labextensions", "@jupyter-widgets", "jupyterlab-manager", "package.json")


def checks(variables: Mapping[str, Any], store: Path) -> Iterator[Check]:
    """Check what is visible from inside the kernel; some front ends store their path in its ``variables``."""
    yield _notebook(notebook_path(os.environ, variables), store)
    yield _widgets(variables)


def _notebook(path: Path | None, store: Path) -> Check:
    if path is None:
        advice = "Its queues are kept under a name of your choice with %agentq start --store PATH."
        kept = f", so the file is {store}" if store.name == DEFAULT_NAME else ""
        return Check("notebook", "notice", f"its path is not known here{kept}", advice)
    if not path.is_file():
        return Check(
            "notebook",
            "notice",
            f"{path} is not there: it was renamed or moved since this kernel began, or never saved",
            f"This kernel keeps using {store.name}. After its restart %agentq start says how to keep that file.",
        )
    return Check("notebook", "ok", str(path))


def _widgets(variables: Mapping[str, Any]) -> Check:
    if "__vsc_ipynb_file__" in variables:
        return Check("widgets", "ok", "VS Code shows them by itself")
    if "google.colab" in sys.modules:
        return Check("widgets", "ok", "Colab shows them by itself")
    server = server_prefix(os.environ.get("JPY_PARENT_PID", ""))
    if server is None:
        return Check("widgets", "ok", "the page that shows this notebook is not known; without one they are text")
    if widget_manager(server) is None:
        return Check(
            "widgets",
            "problem",
            f"the Jupyter server in {server} has no widget manager, so the dashboard is not shown live",
            f"{server}/bin/python -m pip install ipywidgets, then restart the server and reload the page.",
        )
    return Check("widgets", "ok", f"the Jupyter server in {server} shows them")


def server_prefix(pid: str) -> Path | None:
    """Return the Python environment of the Jupyter server that started this kernel; None where that is unknown."""
    if not pid.isdigit() or int(pid) <= 1:
        return None
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # the process is gone, or the system has no /proc
        return None
    is_server = any(Path(word).name.startswith("jupyter") for word in words[:3])
    program = Path(words[0])
    return program.parent.parent if is_server and program.is_absolute() else None


def widget_manager(prefix: Path) -> Path | None:
    """Return where a server's page finds its part of ipywidgets; None where that is not installed."""
    from jupyter_core.paths import jupyter_path

    # The user's and the system's folders are the same for the server and for us.
    shared = [Path(folder) for folder in jupyter_path() if not Path(folder).is_relative_to(sys.prefix)]
    folders = [prefix / "share" / "jupyter", *shared]
    return next((folder / _MANAGER for folder in folders if (folder / _MANAGER).is_file()), None)
