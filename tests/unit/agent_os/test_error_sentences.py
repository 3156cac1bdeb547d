"""What agents and their language models give as a reason, as people are shown it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from acp import RequestError

from agentq_nb.agent_os.agents.acp.frames import sentence_of
from agentq_nb.agent_os.agents.acp.wire import what_it_said

METHODS = {"authMethods": [{"id": "login", "name": "Launch it", "args": ["--login"], "_meta": {"terminal": {}}}]}
REFUSED = '401 {"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"},"request_id":"x"}'


@pytest.mark.parametrize(
    ("message", "data", "says"),
    [
        ("Authentication required: log in.", METHODS, "Authentication required: log in."),
        ("Internal error", {"details": REFUSED}, "Internal error (401 invalid x-api-key)"),
        ("Internal error", {"details": "429 too many"}, "Internal error (429 too many)"),
        ("Internal error", {"error": {"message": "no such model"}}, "Internal error (no such model)"),
        ("Internal error", {"errno": -2}, 'Internal error ({"errno": -2})'),
        ("Internal error", None, "Internal error"),
        (REFUSED, None, "401 invalid x-api-key"),
    ],
)
def test_a_refusal_is_told_as_a_sentence(message: str, data: Any, says: str) -> None:
    assert what_it_said(RequestError(-32603, message, data)) == says


@pytest.mark.parametrize("text", ["{not JSON}", '{"a": 1}', "use {name}", '{"message":' * 5000])
def test_what_holds_no_sentence_stays_as_it_is(text: str) -> None:
    assert sentence_of(text) == text


def test_json_within_json_is_read_to_a_depth_that_ends() -> None:
    text = "at the bottom"
    for _ in range(50):
        text = json.dumps({"message": text}) if len(text) < 10_000 else text
    assert isinstance(sentence_of(text), str)
