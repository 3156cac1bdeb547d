"""Which program this process is, and which notebook a runner without a page (papermill, nbconvert) executes in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_NBCONVERT = ("jupyter-nbconvert", "nbconvert", "jupyter-execute")
_PAPERMILL = "papermill"
_KERNEL = "ipykernel_launcher"
_NOT_A_NOTEBOOK_AFTER = ("--output", "--output-dir", "--to", "--template", "--config")
_PAIRS = ("-p", "--parameters", "-r", "--parameters_raw")
"""Options of papermill that take a name and a value."""


@dataclass(frozen=True)
class Command:
    """How a program was called, and the folders that its relative paths may be meant in."""

    words: Sequence[str]
    folders: Sequence[Path] = ()


def parent_command(environ: Mapping[str, str]) -> Command | None:
    """The program that launched this kernel. None: this is no kernel, its launcher is gone, or there is no ``/proc``."""
    pid = str(os.getppid())
    if environ.get("JPY_PARENT_PID") != pid:  # a child of a kernel has it from there
        return None
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        folder = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None
    # While papermill executes with --cwd it has left the folder that it was called in.
    return Command(words[:-1], [Path(place) for place in (folder, environ.get("PWD")) if place])


def is_kernel(command: Command | None) -> bool:
    """Whether it is a kernel itself; the kernels that its code launches have its environment, but not its notebook."""
    return command is not None and any(_name(word) == _KERNEL for word in command.words[:5])


def executed_notebook(command: Command | None) -> Path | None:
    """The notebook that a runner executes: the one that papermill writes, else the one that is read.

    Papermill may execute one notebook many times at once, each time into another. None where several are executed.
    """
    if command is None:
        return None
    for place, word in enumerate(command.words[:5]):
        if _name(word) == _PAPERMILL:
            return _of_papermill(list(_without_pairs(command.words[place + 1 :])), command.folders)
        if _name(word) in _NBCONVERT:
            return _of_nbconvert(command.words[place + 1 :], command.folders)
    return None


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


def this_program(notebook: Path | None) -> str:
    """What this process is, for people: a notebook, a script, or a session at a prompt."""
    if notebook is not None:
        return f"the notebook {notebook}"
    if "ipykernel" in sys.modules:
        return "a notebook whose path is not known"
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return f"the program {Path(script).absolute()}" if script else "a Python prompt"
