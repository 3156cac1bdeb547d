"""The broker on PostgreSQL, on a real server, does what every broker must do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.brokers.conformance import Conformance
from tests.unit.brokers.postgres_setting import PostgresSetting


class TestPostgresBroker(Conformance):
    @pytest.fixture
    async def setting(self, postgres_url: str) -> AsyncIterator[PostgresSetting]:
        setting = await PostgresSetting.open(postgres_url)
        yield setting
        await setting.close()
