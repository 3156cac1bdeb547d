"""RivetKit's client, as it comes from npm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rivetkit.npm import VERSION, installed


@pytest.fixture(scope="session")
def package() -> Path:
    """A folder with the package, installed by npm once for all runs."""
    return installed("rivetkit", f"rivetkit@{VERSION}")
