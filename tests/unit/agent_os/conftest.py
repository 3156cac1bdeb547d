"""Kinds of isolation for the tests that hold under each."""

from __future__ import annotations

import pytest

from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.values import IsolationKind
from tests.unit.agent_os.needs import need


@pytest.fixture(params=["bubblewrap", "landlock", "none"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> IsolationKind:
    """Each kind that this machine can do, as if it were the only one."""
    need(request.param)
    kinds: tuple[IsolationKind, ...] = ("bubblewrap", "landlock")
    monkeypatch.setattr(isolation, "_tried", {name: "" if name == request.param else "off" for name in kinds})
    return request.param
