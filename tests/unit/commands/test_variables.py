"""``{{name}}`` in a typed body is the notebook's variable, in the form that suits the place; all else stays as typed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import BaseModel

from agentq_nb._actor.queue import Queue
from agentq_nb._commands.catalog import read_line
from agentq_nb._commands.command_context import Command
from agentq_nb._commands.interpolation import filled_body, filled_word
from agentq_nb._commands.message_body import read_body
from agentq_nb._commands.messages import Send
from agentq_nb._commands.parser import UsageError
from agentq_nb._commands.queries import Results, Show
from agentq_nb._commands.store import Sql


class Task(BaseModel):
    file: str
    lines: int = 0


FRAME = pandas.DataFrame({"n": [1, 2]})
VARIABLES: dict[str, Any] = {
    "path": 'src/"a".py',
    "count": 3,
    "task": Task(file="x.py", lines=2),
    "files": ["a.py", "b.py"],
    "config": {"name": "main", "deep": {"list": [1, {"two": 2}]}},
    "nothing": None,
    "place": Path("/tmp/x"),
    "number": FRAME["n"].max(),
    "column": FRAME["n"],
    "frame": FRAME,
    "nan": float("nan"),
    "self": SimpleNamespace(runner=SimpleNamespace(name="deep")),
    "größe": 5,
}


@pytest.mark.parametrize(
    ("template", "body"),
    [
        ("Review {{path}}.", 'Review src/"a".py.'),
        ("Review {{ path }} and {{count}} more", 'Review src/"a".py and 3 more'),
        ("{{path}}{{path}}", 'src/"a".pysrc/"a".py'),
        ("{{self.runner.name}} {{files[0]}} {{files[-1]}} {{config['name']}} {{größe}}", "deep a.py b.py main 5"),
        ('{{config["deep"]["list"][1]["two"]}} of them', "2 of them"),
        ("a\n  {{path}}\n", 'a\n  src/"a".py\n'),
        ("{{nothing}} left", "None left"),
        ("Look at {{nan}}", "Look at nan"),
    ],
)
def test_text_gets_the_values_text(template: str, body: str) -> None:
    assert filled_body(template, VARIABLES) == body


@pytest.mark.parametrize(
    ("template", "body"),
    [
        ('{"file": {{path}}}', {"file": 'src/"a".py'}),
        ('{"prompt": "Review {{path}} now"}', {"prompt": 'Review src/"a".py now'}),
        ('{"a": "\\"{{count}}\\"", "b": {{count}}}', {"a": '"3"', "b": 3}),
        ('{"a": {"b": {{config}}}}', {"a": {"b": VARIABLES["config"]}}),
        ('{ {{path}}: {"n": {{count}} } }', {'src/"a".py': {"n": 3}}),
        ("[{{files[0]}}, {{nothing}}, {{place}}]", ["a.py", None, "/tmp/x"]),
        ("{{task}}", {"file": "x.py", "lines": 2}),
        ('{"max": {{number}}, "all": {{column}}}', {"max": 2, "all": [1, 2]}),
        ("{{path}}", 'src/"a".py'),
        ('{"a": {{config["name"]}}, "b": "{{config["name"]}}"}', {"a": "main", "b": "main"}),
    ],
)
def test_json_gets_json(template: str, body: Any) -> None:
    assert json.loads(filled_body(template, VARIABLES)) == body


@pytest.mark.parametrize(
    "text",
    [
        "{path} $path ${path} {path!r}",
        '{"a":{"b":{}}} {{}} {{ }}',
        '{"a": {"b": {"c": 1}}}',
        "{{",
        "}}}}",
        "{{ {path} }}",
        "style={{\n  color: red\n}}",
        "",
    ],
)
def test_what_names_nothing_stays_as_typed(text: str) -> None:
    assert filled_body(text, VARIABLES) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{{{path}}", "{{path}}"),
        ("{{{{path}}}}", "{{path}}"),
        ("{{{{ user.name | upper }}}} and {{count}}", "{{ user.name | upper }} and 3"),
        ("{{{{#if x}} {{{{/if}}", "{{#if x}} {{/if}}"),
        ('{"template": "{{{{name}}", "n": {{count}}}', '{"template": "{{name}}", "n": 3}'),
    ],
)
def test_four_braces_stand_for_two(template: str, text: str) -> None:
    assert filled_body(template, VARIABLES) == text


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{pth}}", "There is no variable 'pth' here for {{pth}}. Type {{{{ where two braces are meant."),
        ("{{missing.part[0]}}", "There is no variable 'missing' here for {{missing.part[0]}}"),
        ("{{task.fle}}", "{{task.fle}} has no value: AttributeError: 'Task' object has no attribute 'fle'"),
        ("{{files[5]}}", "{{files[5]}} has no value: IndexError"),
        ("{{config['x']}}", "{{config['x']}} has no value: KeyError: 'x'"),
        ("{{count + 1}}", "{{count + 1}} names no variable, as {{name}}"),
        ("{{len(files)}}", "{{len(files)}} names no variable"),
        ("{{files[count]}}", "{{files[count]}} names no variable"),
        ("{{files[0:1]}}", "names no variable"),
        ('style={{color: "red"}}', "names no variable"),
        ("{{#if x}}", "names no variable"),
        ('{"frame": {{frame.index}}, "f": {{task.model_dump}}}', "is of type method, which JSON has no form for"),
        ('{"n": {{nan}}}', "{{nan}} is of type float, which JSON has no form for"),
    ],
)
def test_what_cannot_be_put_in_is_told_in_one_line(template: str, says: str) -> None:
    with pytest.raises(UsageError) as told:
        filled_body(template, VARIABLES)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


class Spy:
    """Notes when it is called."""

    called = False

    def __call__(self) -> None:
        Spy.called = True


def test_nothing_is_called() -> None:
    with pytest.raises(UsageError):
        filled_body("{{spy()}}", {"spy": Spy()})
    assert not Spy.called


def test_a_value_is_never_read_again() -> None:
    assert filled_body("see {{a}}", {"a": "{{b}} {{{{ }}}}"}) == "see {{b}} {{{{ }}}}"
    assert json.loads(filled_body('{"a": "{{a}}"}', {"a": '", "b": "'})) == {"a": '", "b": "'}


@given(some.recursive(some.none() | some.booleans() | some.integers() | some.text(), lambda inner: some.lists(inner)))
def test_any_json_value_arrives_as_it_is(value: Any) -> None:
    assert json.loads(filled_body('{"x": {{value}}, "y": 1}', {"value": value})) == {"x": value, "y": 1}


@given(some.text())
def test_any_text_arrives_as_it_is_inside_a_text_of_json_and_in_plain_text(value: str) -> None:
    assert json.loads(filled_body('{"x": "a {{value}} b"}', {"value": value})) == {"x": f"a {value} b"}
    assert filled_body("a {{value}} b", {"value": value}) == f"a {value} b"


def test_a_lone_variable_is_the_body_itself() -> None:
    assert read_body(filled_body("{{task}}", VARIABLES), Queue(Task), "tasks") == VARIABLES["task"]
    assert read_body(filled_body("{{path}}", VARIABLES), Queue(str), "tasks") == VARIABLES["path"]
    assert read_body(filled_body("{{count}}", VARIABLES), Queue(str), "tasks") == "3"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("show {{config['name']}}", Show(message="main")),
        ("show {{ path }}", Show(message='src/"a".py')),
        ("results worker/{{self.runner.name}} --last {{count}}", Results(actor="worker/deep", last=3)),
        (
            "send --key={{path}}-{{count}} w/a q {{path}}",
            Send(actor="w/a", queue="q", key='src/"a".py-3', body="{{path}}"),
        ),
        ("sql select '{{path}}'", Sql(query="select '{{path}}'")),
        ("show {{{{x}}", Show(message="{{x}}")),
    ],
)
def test_words_of_a_command_get_the_values_text_and_the_rest_is_left_to_the_command(
    line: str, command: Command
) -> None:
    assert read_line(line, None, VARIABLES) == command


def test_a_word_that_is_one_variable_is_its_text_never_json() -> None:
    assert filled_word("{{path}}", VARIABLES) == VARIABLES["path"]
    with pytest.raises(UsageError, match="There is no variable 'gone'"):
        read_line("show {{gone}}", None, VARIABLES)
