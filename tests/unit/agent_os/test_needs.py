"""A fault in the isolation fails tests where the machine can isolate; they are skipped only where it cannot."""

from __future__ import annotations

import pytest

from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.values import IsolationKind
from tests.unit.agent_os import probe
from tests.unit.agent_os.needs import need

KINDS: tuple[IsolationKind, ...] = ("bubblewrap", "landlock")


def outcome(kind: IsolationKind) -> tuple[type[BaseException], str]:
    """How it ends, and the reason it gives. Caught here: a test that is skipped when it should fail would pass unseen."""
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception)) as ended:
        need(kind)
    reasons = ("the launcher does not start", "no such system call")
    return ended.type, next((reason for reason in reasons if reason in str(ended.value)), str(ended.value))


async def _refuses(_: IsolationKind) -> str:
    return "the launcher does not start"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_machine_can_do_and_our_code_cannot_is_a_failure(
    kind: IsolationKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(probe, "why_not", lambda _: "")
    monkeypatch.setattr(isolation, "why_not", _refuses)
    assert outcome(kind) == (pytest.fail.Exception, "the launcher does not start")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_machine_cannot_do_is_skipped_except_in_ci(
    kind: IsolationKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "why_not", lambda _: "no such system call")
    monkeypatch.delenv("CI", raising=False)
    assert outcome(kind) == (pytest.skip.Exception, "no such system call")
    monkeypatch.setenv("CI", "true")
    assert outcome(kind) == (pytest.fail.Exception, "no such system call")
