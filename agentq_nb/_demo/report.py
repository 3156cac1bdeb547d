"""The values of a review: findings, measures, and a summary of two sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

FileKind: TypeAlias = Literal["python", "text", "binary", "empty", "too large"]

_NAMED = 3
"""How many findings a summary names; it counts the rest."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth a look. ``line`` counts from 1; ``serious`` ones are likely mistakes, the others are notes."""

    line: int
    rule: str
    text: str
    serious: bool = False

    def __str__(self) -> str:
        return f"{self.text} (line {self.line})"


@dataclass(frozen=True, slots=True)
class Function:
    """A function's measures: its first line, its length in lines and its cyclomatic complexity (1: no branch)."""

    name: str
    line: int
    length: int
    complexity: int


@dataclass(frozen=True, slots=True)
class FileReview:
    """The review of one file. ``size`` is in bytes; findings are in the order of their lines."""

    path: str
    kind: FileKind
    size: int
    lines: int = 0
    findings: tuple[Finding, ...] = ()
    functions: tuple[Function, ...] = ()

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The serious findings."""
        return tuple(finding for finding in self.findings if finding.serious)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The findings that are not serious."""
        return tuple(finding for finding in self.findings if not finding.serious)

    @property
    def most_complex(self) -> Function | None:
        """The function with the most branches; None when there is no function."""
        return max(self.functions, key=lambda function: function.complexity, default=None)

    @property
    def summary(self) -> str:
        """One or two plain sentences: what to look at, and the file's measures."""
        match self.kind:
            case "empty":
                return "The file is empty."
            case "binary":
                return f"Binary file of {self.size} bytes: not reviewed."
            case "too large":
                return f"The file has {self.size} bytes: too large to be reviewed."
            case "python" | "text":
                return f"{self._verdict()} {self._measures()}"

    def _measures(self) -> str:
        measures = _count(self.lines, "line")
        if not (hardest := self.most_complex):
            return f"{measures}."
        branching = f"the most complex is {hardest.name} ({hardest.complexity}, line {hardest.line})"
        return f"{measures} with {_count(len(self.functions), 'function')}; {branching}."

    def _verdict(self) -> str:
        problems, notes = self.problems, self.notes
        if problems:
            more = f", and {_count(len(notes), 'note')}" if notes else ""
            return f"{_count(len(problems), 'problem')}: {_named(problems)}{more}."
        if notes:
            return f"No problems, {_count(len(notes), 'note')}: {_named(notes)}."
        return "Nothing to remark."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _named(findings: Sequence[Finding]) -> str:
    more = len(findings) - _NAMED
    return "; ".join(map(str, findings[:_NAMED])) + (f"; {more} more" if more > 0 else "")
