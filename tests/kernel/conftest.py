"""A real kernel for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.driving import Kernel

IN_BOTH_PLACES = pytest.mark.parametrize(
    "background", [False, True], ids=["in the kernel's loop", "in the background"], indirect=True
)
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
