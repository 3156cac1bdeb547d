"""A typed body is JSON that fits its queue, or text where the queue takes text; else one line says why not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb._actor.queue import Queue
from agentq_nb._commands.message_body import json_or_text, read_body
from agentq_nb._commands.parser import UsageError


class Task(BaseModel):
    prompt: str


@pytest.mark.parametrize(
    ("declared", "text", "body"),
    [
        (Task, '{"prompt": "it\'s {x} $y"}', Task(prompt="it's {x} $y")),
        (str, "plain {x} text", "plain {x} text"),
        (str, '"quoted"', "quoted"),
        (str, '{"a": 1}', '{"a": 1}'),
        (str, "5", "5"),
        (str, "{broken", "{broken"),
        (int, "5", 5),
        (str | None, "null", None),
        (str | None, "text", "text"),
        (dict[str, Any], '{"a": [1]}', {"a": [1]}),
        (Any, "text", "text"),
        (Any, "[1, 2]", [1, 2]),
    ],
)
def test_bodies_fit_their_queue(declared: Any, text: str, body: Any) -> None:
    assert read_body(text, Queue(declared), "tasks") == body


@pytest.mark.parametrize(
    ("declared", "text", "says"),
    [
        (Task, "just text", "Queue 'tasks' takes JSON for Task"),
        (Task, '{"promt": "x"}', "prompt: Field required"),
        (Task, '{"prompt": "x"', "takes JSON for Task"),
        (int, "five", "takes JSON for int"),
        (float, "NaN", "NaN is no JSON"),
        (Any, '{"prompt": "x"', "looks like JSON and is none"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(declared: Any, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_body(text, Queue(declared), "tasks")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_declaration_it_is_json_or_text() -> None:
    assert json_or_text('{"a": 1}') == {"a": 1}
    assert json_or_text("hello there") == "hello there"
    with pytest.raises(UsageError, match="looks like JSON and is none"):
        json_or_text("[1, 2")
