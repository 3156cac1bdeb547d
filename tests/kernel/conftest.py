"""A real kernel for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.driving import Kernel

PLACES = (False, True)
NAMES_OF_PLACES = ("in the kernel's loop", "in the background")
"""For fixtures of a module: ``@pytest.fixture(scope="module", params=PLACES, ids=NAMES_OF_PLACES)``."""

IN_BOTH_PLACES = pytest.mark.parametrize("background", PLACES, ids=NAMES_OF_PLACES, indirect=True)
"""Marks tests that are run twice: with hosts in the kernel's event loop, and with hosts in the background."""


@pytest.fixture
def background(request: pytest.FixtureRequest) -> bool:
    """Whether the hosts of the test's kernel live in the background; see ``IN_BOTH_PLACES``."""
    return getattr(request, "param", False)


@pytest.fixture
def kernel(tmp_path: Path, background: bool) -> Iterator[Kernel]:
    """A running ipykernel in an empty folder."""
    with Kernel(tmp_path, background=background) as running:
        yield running
