"""Looking for secrets in what is stored and shown."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb


def assert_nowhere(secrets: Collection[str], text: str) -> None:
    """None of them is in a text, also as JSON has it."""
    for secret in secrets:
        for form in {secret, json.dumps(secret)[1:-1]}:
            at = text.find(form)
            assert at < 0, f"…{text[max(0, at - 200) : at]}<THE SECRET>"


def assert_not_stored(secrets: Collection[str], folder: Path, without: Sequence[str] = ()) -> int:
    """None is in any file below a folder: in its bytes, and in what a DuckDB file says, which may be compressed.

    How many files were searched. ``without`` are folders' names that are left out.
    """
    searched = 0
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file() or set(without).intersection(path.relative_to(folder).parts):
            continue
        searched += 1
        content = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in content, path
        if path.suffix == ".duckdb":
            assert_nowhere(secrets, events_in(path))
    assert searched, f"There is nothing in {folder}."
    return searched


def events_in(store: Path) -> str:
    """All rows of a copy of a store, its WAL included."""
    with tempfile.TemporaryDirectory() as folder:
        for path in store.parent.glob(f"{store.name}*"):
            shutil.copy(path, folder)
        connection = duckdb.connect(str(Path(folder) / store.name))
        try:
            rows = connection.execute("select * from events").fetchall()
        finally:
            connection.close()
    assert rows, f"{store} has no events."
    return "\n".join(map(repr, rows))
