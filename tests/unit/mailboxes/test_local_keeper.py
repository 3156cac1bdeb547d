"""The local keeper, on a real file, does what every keeper must do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.mailboxes.conformance import Conformance
from tests.unit.mailboxes.settings import LocalSetting, Setting


class TestLocalKeeper(Conformance):
    @pytest.fixture
    async def setting(self, tmp_path: Path) -> AsyncIterator[Setting]:
        setting = await LocalSetting.open(tmp_path)
        yield setting
        await setting.close()
