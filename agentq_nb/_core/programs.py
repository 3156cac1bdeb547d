"""Detect which program this process is, and which notebook a headless runner (papermill, nbconvert) executes in it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

_NBCONVERT = ("jupyter-nbconvert", "nbconvert", "jupyter-execute")
_VOILA = "voila"
_PAPERMILL = "papermill"
_KERNEL = "ipykernel_launcher"
_NOT_A_NOTEBOOK_AFTER = ("--output", "--output-dir", "--to", "--template", "--config")
_PAIRS = ("-p", "--parameters", "-r", "--parameters_raw")
"""Options of papermill that take a name and a value."""


@dataclass(frozen=True)
class Command:
    """The command line of a program, and the folders that its relative paths may refer to."""

    words: Sequence[str]
    folders: Sequence[Path] = ()


def parent_command(environ: Mapping[str, str]) -> Command | None:
    """Return the program that launched this kernel; None without a kernel, launcher or ``/proc``."""
    pid = str(os.getppid())
    if environ.get("JPY_PARENT_PID") != pid:  # inherited by a kernel's child processes
        return None
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        folder = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None
    # With --cwd, papermill has left the folder that it was called in.
    return Command(words[:-1], [Path(place) for place in (folder, environ.get("PWD")) if place])


def is_kernel(command: Command | None) -> bool:
    """Whether the program is a kernel; kernels that its code launches share its environment, but not its notebook."""
    return command is not None and any(_name(word) == _KERNEL for word in command.words[:5])


def executed_notebook(command: Command | None) -> Path | None:
    """Return the notebook that a runner executes: the one that papermill writes, else the one that is read.

    Papermill may execute one notebook many times at once, each time into another. None where several are executed.
    """
    if command is None:
        return None
    for place, word in enumerate(command.words[:5]):
        if _name(word) == _PAPERMILL:
            return _of_papermill(list(_without_pairs(command.words[place + 1 :])), command.folders)
        if _name(word) in (*_NBCONVERT, _VOILA):
            return _of_nbconvert(command.words[place + 1 :], command.folders)
    return None


def voila_notebook(environ: Mapping[str, str]) -> Path | None:
    """Return the notebook that Voila, serving a folder or inside a server, runs in this kernel for a page."""
    name = Path(unquote(environ.get("SCRIPT_NAME", ""))).name
    path = Path.cwd() / name
    return path if runs_in_voila(environ) and path.suffix == ".ipynb" and path.is_file() else None


def runs_in_voila(environ: Mapping[str, str]) -> bool:
    """Whether Voila launched this kernel."""
    return environ.get("SERVER_SOFTWARE", "").startswith(f"{_VOILA}/")


def _of_papermill(words: Sequence[str], folders: Sequence[Path]) -> Path | None:
    named = [word for word in words if word.endswith(".ipynb")]
    for folder in folders:
        if named and (folder / named[0]).is_file():
            paths = [Path(os.path.normpath(folder / name)) for name in named[:2]]
            return next((path for path in reversed(paths) if path.parent.is_dir()), None)
    return None


def _of_nbconvert(words: Sequence[str], folders: Sequence[Path]) -> Path | None:
    names = [
        word
        for before, word in zip(("", *words), words, strict=False)
        if not word.startswith("-") and before not in _NOT_A_NOTEBOOK_AFTER
    ]
    for folder in folders:
        paths = {Path(os.path.normpath(folder / name)) for name in names}
        found = {
            path if path.suffix == ".ipynb" else path.with_name(f"{path.name}.ipynb") for path in paths if path.name
        }
        if notebooks := [path for path in found if path.is_file()]:
            return notebooks[0] if len(notebooks) == 1 else None
    return None


def _without_pairs(words: Sequence[str]) -> Iterator[str]:
    skipped = 0
    for word in words:
        if skipped:
            skipped -= 1
        elif word in _PAIRS:
            skipped = 2
        else:
            yield word


def _name(word: str) -> str:
    return Path(word).name


Marimo: TypeAlias = Literal["edit", "run", "script", "test"]
"""How marimo runs a notebook: as an editable page, a read-only page, a program, or for its tests."""


def marimo_mode() -> Marimo | None:
    """Return how marimo runs the calling notebook; None outside marimo."""
    marimo = sys.modules.get("marimo")
    return None if marimo is None or not hasattr(marimo, "app_meta") else marimo.app_meta().mode


def kernel_of_shell() -> Any:
    """Return this process's Jupyter kernel; None in a terminal, a script, or where IPython is not loaded."""
    return getattr(_shell(), "kernel", None)


def is_engine(kernel: object) -> bool:
    """Whether a kernel is an engine of ipyparallel."""
    return type(kernel).__module__.partition(".")[0] == "ipyparallel"


def in_terminal() -> bool:
    """Whether this process is IPython in a terminal."""
    return _shell() is not None and kernel_of_shell() is None


def loop_is_unfit() -> bool:
    """Whether the event loop here cannot run a host.

    The loop of IPython's terminal runs only while a line awaits something. The loop of ``marimo run`` ends with its
    page. ipyparallel's engines never answer code that awaits, so users have to wait with ``registry.run`` there.
    """
    if marimo_mode() == "run" or is_engine(kernel_of_shell()):
        return True
    if not in_terminal() or getattr(_shell(), "active_eventloop", None) == "asyncio":
        return False
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return True
    from IPython.core.async_helpers import get_asyncio_loop

    return threading.current_thread() is not threading.main_thread() or loop is get_asyncio_loop()


def advice_on_files(environ: Mapping[str, str]) -> str | None:
    """Return advice, in sentences, where one program launches many kernels that would share one store; else None."""
    kernel = kernel_of_shell()
    if kernel is not None and runs_in_voila(environ):
        return (
            "Voila runs the notebook in a kernel of its own for each page that is opened, and one of them has the file. "
            "Give each page a file: setup(store=f\"{os.environ['VOILA_KERNEL_ID']}.duckdb\")."
        )
    if is_engine(kernel):
        return (
            "Each engine of ipyparallel is a kernel of its own, and one of them has the file. Give each engine a file: "
            'setup(store=f"engine-{get_ipython().kernel.engine_id}.duckdb").'
        )
    return None


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


def cell_of(filename: str) -> str | None:
    """Return ``Cell In[3]`` for the file that IPython makes of a cell; None for any other. Thread-safe."""
    name_of = getattr(getattr(_shell(), "compile", None), "format_code_name", None)
    named = None if name_of is None else name_of(filename)
    return None if named is None else " ".join(named)


def this_program(notebook: Path | None) -> str:
    """Return a description of this process for users: a notebook, a script, or a session at a prompt."""
    if notebook is not None:
        return f"the notebook {notebook}"
    if "ipykernel" in sys.modules:
        return "a notebook whose path is not known"
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return f"the program {Path(script).absolute()}" if script else "a Python prompt"
