"""Which JSON values are found in what a language model wrote."""

from __future__ import annotations

import pytest

from agentq_nb._core.json_in_text import find_json, inner_json


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": 1}', ['{"a": 1}']),
        ('The answer is {"a": 1}. I hope it helps.', ['{"a": 1}']),
        ('```json\n{"a": [1, 2]}\n```\nIt took 3 tries.', ['{"a": [1, 2]}']),
        ('~~~\n{"a": 1}\n~~~', ['{"a": 1}']),
        ('```json {"a": 1}```', ['{"a": 1}']),
        ('first {"a": 1}, then {"a": 2}', ['{"a": 1}', '{"a": 2}']),
        ('{"a": {"b": [{"c": "}"}]}}', ['{"a": {"b": [{"c": "}"}]}}']),
        ('{"a": "a \\"quoted\\" { brace"}', ['{"a": "a \\"quoted\\" { brace"}']),
        ('He said "take {" and gave {"a": "\N{SNOWMAN} \\u2603"}', ['{"a": "\N{SNOWMAN} \\u2603"}']),
        ("a set {x | x > 0}, a [link](url), {'a': 1}, [x] and {...}", []),
        ("The values are:\n42\n-1.5e3\nnull\n", ["42", "-1.5e3", "null"]),
        ('"a text"', ['"a text"']),
        ('{"a": 1} 5', ['{"a": 1}']),
        ("", []),
    ],
)
def test_values_are_found(text: str, values: list[str]) -> None:
    found = find_json(text)
    assert (found.values, found.cut_off) == (values, False)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "root", "children": [{"name": "leaf", "children": []}, {"na',
        '{"a": 1}\nNo, it is:\n{"a": ',
        '```json\n[{"a": 1}, {"a": 2}',
        '{"a": "a text that is never closed, with {"a": 1}',
        "[" * 100_000,
    ],
)
def test_what_is_inside_a_value_that_is_cut_off_is_none(text: str) -> None:
    found = find_json(text)
    assert found.cut_off
    assert '{"name": "leaf", "children": []}' not in found.values
    assert '{"a": 2}' not in found.values


def test_what_follows_a_value_that_was_cut_off_in_its_fence_is_found() -> None:
    found = find_json('```json\n{"a": "cut\n```\nOnce more:\n```json\n{"a": 2}\n```')
    assert (found.values, found.cut_off) == (['{"a": 2}'], False)


def test_what_is_inside_a_broken_value_is_none() -> None:
    assert find_json('{"children": [{"children": []},], }').values == ['{"children": [{"children": []},], }']


@pytest.mark.parametrize(
    ("text", "inline"),
    [
        ("The answer is 42.", ["42"]),
        ("**42**", ["42"]),
        ('It is "yes", I think, or true.', ['"yes"', "true"]),
        ("1,000 of 2026-11-30, v2 and x3", []),
        ("```json\n42\n```\nIt took 3 tries.", ["3"]),
    ],
)
def test_single_values_in_prose_are_told_apart(text: str, inline: list[str]) -> None:
    found = find_json(text)
    assert [value for value in found.inline() if value[0] in '-"0123456789tfn'][: len(inline)] == inline
    assert not set(found.values) & set(inline)


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ('{"answer": {"a": 1}}', '{"a": 1}'),
        ('[{"a": 1}]', '{"a": 1}'),
        ('"{\\"a\\": 1}"', '{"a": 1}'),
        ('{"type": "string"}', None),
        ('{"a": 1, "b": 2}', None),
        ('{"a": ', None),
        ("[" * 5000 + "]" * 5000, None),
    ],
)
def test_a_value_that_only_wraps_another_is_unwrapped(text: str, inner: str | None) -> None:
    assert inner_json(text) == inner


HOSTILE = [
    "{",
    "[",
    '{"a":',
    '"',
    '\\"',
    '["',
    "1 ",
    "1\n",
    '{"a":1,}',
    '{"a":1}',
    "1e",
    "-",
    "{ ",
    '{"',
    "```\n",
    '{"a":"\\"',
    " \n",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_long_answer_is_searched_in_one_pass(piece: str) -> None:
    """Were every bracket or quote looked at again from each one before it, this would take longer than a test may."""
    text = piece * (600_000 // len(piece)) + '\n```\n{"last": 1}\n```'
    found = find_json(text)
    assert found.values[-1] == '{"last": 1}'
    assert sum(1 for _ in found.inline()) < len(text)
