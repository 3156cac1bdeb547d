from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log of this test goes: alone in its folder."""
    folder = tmp_path / "log"
    folder.mkdir()
    return folder / "work.agentq.duckdb"
