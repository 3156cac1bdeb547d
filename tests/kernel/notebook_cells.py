"""The cells of a notebook's file, and running them all in a kernel."""

from __future__ import annotations

from pathlib import Path

import nbformat

from tests.kernel.driving import Kernel


def code_of(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def run_all(kernel: Kernel, notebook: Path) -> str:
    """Run every cell in order; everything they printed and showed."""
    shown = []
    for code in code_of(notebook):
        cell = kernel.run(code, timeout=120).check()
        shown += [cell.stdout, *(str(result["text/plain"]) for result in cell.results + cell.displays)]
    return "\n".join(shown)
