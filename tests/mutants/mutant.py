"""One mistake in one module, and what to call it."""

from __future__ import annotations

import ast
import difflib
import hashlib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Mutant:
    """One mistake in one module."""

    path: str
    function: str
    """The qualified name of the function it is in; empty at the level of a class or of the module."""
    mistake: str
    line: int
    statement: str
    """The first line of the statement that is changed: tests that do not run it cannot notice."""
    before: str
    """The whole module."""
    after: str

    @cached_property
    def id(self) -> str:
        """The same for as long as the module and the mistake are."""
        return hashlib.sha256(f"{self.path}\n{self.after}".encode()).hexdigest()[:12]

    @cached_property
    def changes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The lines that are gone and those in their place, without indentation: they survive a move."""
        lines = list(difflib.ndiff(self.before.splitlines(), self.after.splitlines()))
        gone = tuple(line[2:].strip() for line in lines if line.startswith("- "))
        return gone, tuple(line[2:].strip() for line in lines if line.startswith("+ "))

    @cached_property
    def diff(self) -> str:
        """What is changed, as people read it."""
        gone, new = self.changes
        return "\n".join([*(f"    - {line}" for line in gone), *(f"    + {line}" for line in new)])

    def rank(self, seed: int) -> str:
        """Mutants sorted by it are in an order of chance that a change elsewhere hardly touches."""
        return hashlib.sha256(f"{seed} {self.path} {self.function} {self.mistake} {self.changes}".encode()).hexdigest()


def place_of(source: str, line: int) -> tuple[str, str]:
    """The qualified name of the innermost function around a line (empty: none), and the line its statement begins with."""
    function, statement = "", line

    def look(node: ast.AST, names: tuple[str, ...]) -> None:
        nonlocal function, statement
        for child in ast.iter_child_nodes(node):
            inner = names
            if isinstance(child, ast.stmt) and child.lineno <= line <= (child.end_lineno or child.lineno):
                statement = child.lineno
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                inner = (*names, *(("<locals>",) if inside else ()), child.name)
                if not isinstance(child, ast.ClassDef) and child.lineno <= line <= (child.end_lineno or child.lineno):
                    function = ".".join(inner)
            look(child, inner)

    look(ast.parse(source), ())
    return function, source.splitlines()[statement - 1].strip()
