"""Every error that tests bring out, on one page to read: ``python -m tests.errors``.

Words after it go to pytest, in place of the fast tests: ``python -m tests.errors tests/unit tests/kernel``. The page is
``artefacts/errors.md``, sorted by code: each text once for each place that makes it, with a test that has it made. What
no test brings out is named at its beginning.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypedDict

from agentq_nb import errors
from agentq_nb._core.safe_text import safe
from tests.recording_errors.sitecustomize import RECORD

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "artefacts" / "errors.md"
_RECORDER = CHECKOUT / "tests" / "recording_errors"
_MOST_OF_A_PLACE = 8
_TESTS = ["tests/unit", "tests/agents/test_permissions.py"]
"""They are fast, and bring out every code."""


Recorded = TypedDict(
    "Recorded", {"code": str, "class": str, "place": str, "text": str, "kind": str, "test": str}, total=True
)


def record(words: Sequence[str]) -> tuple[int, list[Recorded]]:
    """Run pytest; its exit code, and the errors that were made meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "errors")
        paths = [str(_RECORDER), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, RECORD: str(file), "PYTHONPATH": os.pathsep.join(paths)}
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *(words or _TESTS)], cwd=CHECKOUT, env=environment
        ).returncode
        return code, [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def codes() -> dict[str, list[str]]:
    """The classes of errors.py by the code that they are raised with."""
    known: dict[str, list[str]] = {}
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, errors.AgentqError) and "code" in vars(kind):
            known.setdefault(f"{kind.group}.{kind.code}", []).append(kind.__name__)
    return known


def unseen(recorded: Iterable[Recorded]) -> dict[str, list[str]]:
    """The codes that no error was recorded with. ``agentq.error`` and ``user.user_error`` are for users' code."""
    seen = {row["code"] for row in recorded} | {"agentq.error", "user.user_error"}
    return {code: names for code, names in codes().items() if code not in seen}


def page(recorded: Iterable[Recorded]) -> str:
    """The page, in Markdown."""
    distinct = {(row["code"], row["class"], row["place"], row["kind"]): row for row in recorded}
    rows = [distinct[key] for key in sorted(distinct)]
    lines = ["# Errors that tests bring out", ""]
    missing = [f"`{code}` ({', '.join(names)})" for code, names in sorted(unseen(rows).items())]
    lines += [f"Brought out by no test: {', '.join(missing)}." if missing else "Tests bring out every code.", ""]
    for (code, name), of_code in groupby(rows, lambda row: (row["code"], row["class"])):
        lines += [f"## {code} ({name})", ""]
        for place, of_place in groupby(of_code, lambda row: row["place"]):
            texts = list(of_place)
            lines += [f"### {place}", ""]
            for row in texts[:_MOST_OF_A_PLACE]:
                lines += [
                    f"> {safe(row['text'], 1500).replace(chr(10), chr(10) + '> ')}",
                    "",
                    f"<sub>{row['test']}</sub>",
                    "",
                ]
            if len(texts) > _MOST_OF_A_PLACE:
                lines += [f"And {len(texts) - _MOST_OF_A_PLACE} more texts.", ""]
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Write the page; pytest's exit code, or 1 where the fast tests leave out a code."""
    code, recorded = record(words)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(recorded))
    print(f"{len(recorded)} errors are written to {PAGE}.")
    missing = unseen(recorded)
    if missing:
        print(f"Brought out by no test: {', '.join(sorted(missing))}", file=sys.stderr)
    return code or int(bool(missing) and not words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
