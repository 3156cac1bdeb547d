"""Figures of one run: each a median over rounds, and where a target was set, its ratio to another figure of the run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Figure:
    """One row of the table. ``value`` is in ``unit``; ``limit`` says what was to be reached, and ``reached`` whether."""

    name: str
    value: float
    unit: str
    ratio: str = ""
    limit: str = ""
    reached: bool | None = None


@dataclass
class Table:
    """All rows of a run, and of how many rounds the medians are."""

    rounds: int = 3
    figures: list[Figure] = field(default_factory=list[Figure])

    def add(self, name: str, value: float, unit: str) -> Figure:
        figure = Figure(name, value, unit)
        self.figures.append(figure)
        return figure

    def again(self, figure: Figure) -> Figure:
        """A row for a further target of the same figure."""
        return self.add(f"  {figure.name}", figure.value, figure.unit)

    def aim(
        self, figure: Figure, ratio: float, what: str, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        """Say how a figure stands to its target: ``ratio`` is what ``what`` names."""
        figure.ratio = f"{ratio:.2f} {what}"
        if at_least is not None:
            figure.limit, figure.reached = f"≥ {at_least:g}", ratio >= at_least
        if at_most is not None:
            figure.limit, figure.reached = f"≤ {at_most:g}", ratio <= at_most

    def render(self) -> str:
        """The table as text."""
        rows = [("figure", "median", "ratio", "target", "")]
        rows += [
            (
                figure.name,
                f"{_short(figure.value)} {figure.unit}",
                figure.ratio,
                figure.limit,
                {True: "reached", False: "SHORT", None: ""}[figure.reached],
            )
            for figure in self.figures
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


class Samples:
    """What was measured, by name, over all rounds."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[float]] = {}

    def add(self, name: str, *values: float) -> None:
        """Keep values of one more round."""
        self._by_name.setdefault(name, []).extend(values)

    def median(self, name: str) -> float:
        """The median of all values of all rounds. Raises KeyError where nothing was measured."""
        return median(self._by_name[name])

    def percentile(self, name: str, percent: float) -> float:
        """The value below which ``percent`` of the others are."""
        return percentile(self._by_name[name], percent)

    def highest(self, name: str) -> float:
        """The highest value of all rounds."""
        return max(self._by_name[name])


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of the others lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
