"""The map of RivetKit's behaviours is complete, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parents[2]
MAP = PROJECT / "tests" / "rivetkit_map.md"

LINES = {1: 14, 2: 15, 3: 9, 4: 8, 5: 6, 6: 6, 7: 7, 8: 23, 9: 3, 10: 6, 11: 4, 12: 3, 13: 11}
"""How many behaviours RivetKit has in each section."""

_NODE = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
_PLACEHOLDER = re.compile(r"\b(todo|tbd|fixme|xxx|pending)\b|\?\?|\.\.\.", re.IGNORECASE)


class Line(NamedTuple):
    """One row of a table of the map."""

    section: int
    behaviour: str
    verdict: str


def lines() -> list[Line]:
    """Every row of every table, the heads aside."""
    found: list[Line] = []
    section = 0
    for text in MAP.read_text().splitlines():
        if heading := re.match(r"## (\d+)\. ", text):
            section = int(heading[1])
        elif text.startswith("|") and not text.startswith(("| behaviour", "|---")):
            cells = [cell.strip() for cell in text.strip("|").split("|")]
            assert len(cells) == 2, text
            found.append(Line(section, *cells))
    return found


@cache
def names_in(path: str) -> frozenset[str]:
    """Names of the test functions of a file, and of those in its classes."""
    tree = ast.parse((PROJECT / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def test_every_section_has_all_its_lines() -> None:
    counted = {section: sum(line.section == section for line in lines()) for section in LINES}
    assert counted == LINES
    assert len({(line.section, line.behaviour) for line in lines()}) == sum(LINES.values()), "a line stands twice"


@pytest.mark.parametrize("line", lines(), ids=lambda line: f"{line.section}: {line.behaviour[:60]}")
def test_the_line_has_a_verdict_and_its_tests_exist(line: Line) -> None:
    nodes = _NODE.findall(line.verdict)
    if line.verdict.startswith("not applicable: "):
        assert len(line.verdict) > 40, "a reason that says something"
        assert not nodes
    else:
        assert nodes, "no test is named"
        told = _NODE.sub("", line.verdict).strip(" ,")
        assert not told or re.match(r"better: \w.{8,}", told), "neither a list of tests nor `better: reason`"
    for path, name in nodes:
        assert name in names_in(path), f"{path} has no {name}"


def test_nothing_is_left_open() -> None:
    for line in lines():
        assert not _PLACEHOLDER.search(_NODE.sub("", line.behaviour + line.verdict)), line


def test_every_weakness_that_was_seen_is_shown_to_be_better_here() -> None:
    seen = [line for line in lines() if line.section == 13]
    assert sum(line.verdict.startswith("better: ") for line in seen) == len(seen) - 1
    kept = [line.behaviour for line in seen if not line.verdict.startswith("better: ")]
    assert kept == ["a client that stops waiting gets an error; the message is handled"]
