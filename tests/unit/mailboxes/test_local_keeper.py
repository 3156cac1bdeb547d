"""The local keeper, on a real file, does what every keeper must do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentq_nb.mailboxes.protocol import Pause, Resume
from tests.unit.mailboxes.conformance import Conformance
from tests.unit.mailboxes.conformance.words import ACTOR, claim, send, take
from tests.unit.mailboxes.settings import LocalSetting, Setting


class TestLocalKeeper(Conformance):
    @pytest.fixture
    async def setting(self, tmp_path: Path) -> AsyncIterator[Setting]:
        setting = await LocalSetting.open(tmp_path)
        yield setting
        await setting.close()

    async def test_nothing_is_handed_out_before_a_resumption_is_on_disk(self, setting: Setting) -> None:
        await setting.keeper.change(ACTOR, Pause("tasks"))
        await send(setting.keeper)
        lease = await claim(setting)
        resuming = asyncio.ensure_future(setting.keeper.change(ACTOR, Resume("tasks")))
        await asyncio.sleep(0)
        assert not resuming.done()
        assert await take(lease) == []
        await resuming
        assert len(await take(lease)) == 1
