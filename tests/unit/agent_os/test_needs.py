"""A fault in the isolation fails tests where the machine can isolate; they are skipped only where it cannot."""

from __future__ import annotations

import pytest

from agentq_nb.agent_os import isolation
from agentq_nb.agent_os.values import IsolationKind
from tests.unit.agent_os import probe
from tests.unit.agent_os.needs import need

KINDS: tuple[IsolationKind, ...] = ("bubblewrap", "landlock")


async def _refuses(_: IsolationKind) -> str:
    return "the launcher does not start"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_machine_can_do_and_our_code_cannot_is_a_failure(
    kind: IsolationKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(probe, "why_not", lambda _: "")
    monkeypatch.setattr(isolation, "why_not", _refuses)
    with pytest.raises(pytest.fail.Exception, match="the launcher does not start"):
        need(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_machine_cannot_do_is_skipped_except_in_ci(
    kind: IsolationKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "why_not", lambda _: "no such system call")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such system call"):
        need(kind)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such system call"):
        need(kind)
