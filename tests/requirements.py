"""What tests need of the machine and may not find there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(sentence: str) -> NoReturn:
    """Fail in CI, where a run must prove everything; skip elsewhere, where the rest is worth running.

    :param sentence: what is missing, and how to get it.
    """
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)
