"""What people see of a VM's processes and requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb.agent_os import OutputSoFar, PermissionRequest, ProcessInfo, ProcessOutput

TIME = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (ProcessInfo("p1", "make test", "running", TIME), ["p1", "make test", "running"]),
        (ProcessInfo("p1", "make test", "ended", TIME, TIME, 3), ["ended", "exit code", "3"]),
        (ProcessOutput("p1", "stderr", "no such file"), ["p1", "stderr", "no such file"]),
        (OutputSoFar("listening", "", False), ["listening"]),
        (OutputSoFar("", "", False), ["Nothing was written yet."]),
        (PermissionRequest("s1", "claude", "rm -r build", "execute", {"a": 1}, "r1"), ["claude", "rm -r build", "r1"]),
    ],
)
def test_each_shows_what_it_is(value: Any, words: list[str]) -> None:
    text = as_text(document_of(value))
    assert [word for word in words if word not in text] == []
