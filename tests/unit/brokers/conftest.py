"""The local broker under test, and both brokers with limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.brokers.limited import limited as limited
from tests.unit.brokers.settings import LocalSetting


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[LocalSetting]:
    """The local broker; below ``postgres`` it is the other one."""
    setting = await LocalSetting.open(tmp_path)
    yield setting
    await setting.close()
