"""The fake broker does what every broker must do, prompt or late: so tests above it can rely on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.brokers.conformance import Conformance
from tests.unit.brokers.settings import FakeSetting, Setting
from tests.unit.faults import LateNetwork


class TestFakeBroker(Conformance):
    @pytest.fixture
    async def setting(self) -> AsyncIterator[Setting]:
        setting = FakeSetting()
        yield setting
        await setting.close()


class TestLateBroker(Conformance):
    @pytest.fixture(params=range(3))
    async def setting(self, request: pytest.FixtureRequest) -> AsyncIterator[Setting]:
        setting = FakeSetting(LateNetwork(request.param))
        yield setting
        await setting.close()
