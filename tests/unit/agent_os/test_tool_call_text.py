"""What people are shown of a tool call before it runs: all of it, and nothing that only looks like it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentq_nb._core.safe_text import exact
from agentq_nb.agent_os import PermissionRequest
from agentq_nb.agent_os.tool_call_text import Part, diff, parts_of

LONG = "; ".join(f"echo {number} is done" for number in range(400)) + "; rm -rf ~"


def texts(title: str, **tool_call: Any) -> dict[str, str]:
    parts = parts_of(title, {"toolCallId": "1", "status": "pending", **tool_call})
    assert len({part.name for part in parts}) == len(parts)
    return {part.name: part.text for part in parts}


def file(old: str | None, new: str, path: str = "/home/user/new.py") -> dict[str, Any]:
    return {"type": "diff", "path": path, "oldText": old, "newText": new}


def said(text: str) -> dict[str, Any]:
    return {"type": "content", "content": {"type": "text", "text": text}}


# --- what is told ---


def test_a_write_shows_the_file_it_writes_line_by_line() -> None:
    call = {
        "kind": "edit",
        "content": [file(None, "import os\nos.remove('x')\n")],
        "locations": [{"path": "/home/user/new.py"}],
        "rawInput": {"file_path": "/home/user/new.py", "content": "import os\nos.remove('x')\n"},
    }
    assert texts("Write new.py", **call) == {"new file /home/user/new.py": "+import os\n+os.remove('x')"}


def test_a_long_command_is_shown_whole_and_once() -> None:
    assert len(LONG) > 5_432
    assert texts(f"`{LONG}`", rawInput={"command": LONG, "description": "Tidy up"}, content=[said("Tidy up")]) == {
        "command": LONG,
        "says": "Tidy up",
    }


def test_a_command_that_is_a_list_is_shown_as_a_shell_would_write_it() -> None:
    command = ["/bin/bash", "-lc", "echo 'two words' && ls"]
    shown = texts("run", rawInput={"command": command, "cwd": "/home/user", "timeout": 5})
    assert shown["command"] == "/bin/bash -lc 'echo '\"'\"'two words'\"'\"' && ls'"
    assert shown["input"] == "cwd: /home/user\ntimeout: 5"


def test_a_title_that_says_it_all_is_shown_whole_where_nothing_else_does() -> None:
    assert texts("Run: make clean\nrm -rf build") == {"asks": "Run: make clean\nrm -rf build"}
    assert texts(LONG) == {"asks": LONG}
    assert texts("rm -rf /") == {}


def test_what_a_python_agent_tells_is_shown_whatever_it_calls_it() -> None:
    shown = texts("Delete", command="rm x", reason="it is old", files=["a", "b"], body="one\ntwo")
    assert shown == {"command": "rm x", "body": "one\ntwo", "input": 'reason: it is old\nfiles: ["a", "b"]'}


def test_arguments_of_a_tool_and_blocks_of_other_kinds_are_shown_as_json() -> None:
    link = {"type": "content", "content": {"type": "resource_link", "uri": "https://example.org/x", "name": "x"}}
    shown = texts("mcp__shop__order", rawInput={"items": [{"id": 7}], "express": True}, content=[link])
    assert shown["input"] == 'items: [{"id": 7}]\nexpress: true'
    assert json.loads(shown["content"]) == link["content"]


def test_places_are_shown_unless_a_change_names_them() -> None:
    places = [{"path": "/home/user/a.py", "line": 3}, {"path": "/home/user/b.py"}]
    assert texts("Read", locations=places) == {"paths": "/home/user/a.py:3\n/home/user/b.py"}
    assert "paths" not in texts("Edit", locations=places[1:], content=[file("a\n", "b\n", "/home/user/b.py")])


def test_what_the_input_says_differently_from_the_change_is_shown_too() -> None:
    shown = texts("Write", content=[file(None, "harmless\n")], rawInput={"content": "evil\n", "file_path": "/etc/x"})
    assert shown["new file /home/user/new.py"] == "+harmless"
    assert (shown["content"], shown["input"]) == ("evil\n", "file_path: /etc/x")


def test_several_changes_of_one_file_are_all_shown() -> None:
    changes = [file("a\n", "b\n"), file("c\n", "d\n")]
    parts = parts_of("Edit", {"content": changes})
    assert [part.text for part in parts] == ["@@ -1 +1 @@\n-a\n+b", "@@ -1 +1 @@\n-c\n+d"]
    assert all(part.is_diff for part in parts)


@pytest.mark.parametrize(
    "call",
    [
        {"content": "a text", "rawInput": "not a mapping"},
        {"content": ["x", 5, None, {"type": "diff"}, {"type": "diff", "path": 3, "newText": []}], "locations": "here"},
        {"locations": [None, {"path": None}, {"line": 1}], "rawInput": [1, [2]]},
        {"content": {"type": "diff"}, "command": {"run": "x"}, "cmd": ["a", 5]},
        {"rawInput": {"": "", "x" * 5_000: "y", "a\nb": "c\nd"}},
    ],
)
def test_what_is_not_as_the_protocol_has_it_is_shown_all_the_same(call: dict[str, Any]) -> None:
    shown = "\n".join(part.name + part.text for part in parts_of("odd", call))
    for word in ("a text", "not a mapping", "here", "run", "y", "d"):
        if word in json.dumps(call):
            assert word in shown


@pytest.mark.parametrize(
    "wrong",
    [{"path": 3}, {"path": None}, {"newText": 5}, {"newText": None}, {"oldText": 5}, {"oldText": ["a"]}],
    ids=str,
)
def test_a_change_with_a_field_of_another_type_is_shown_as_json(wrong: dict[str, Any]) -> None:
    change = {**file("a\n", "b\n"), **wrong}
    (part,) = parts_of("Edit", {"content": [change]})
    assert (part.name, json.loads(part.text), part.is_diff) == ("content", change, False)


# --- diffs ---


def test_a_change_in_a_large_file_is_shown_with_three_lines_around_it() -> None:
    lines = [f"line {number}" for number in range(1, 20_001)]
    old = "\n".join(lines) + "\n"
    assert diff(old, old.replace("line 10000\n", "changed\n")) == (
        "@@ -9997,7 +9997,7 @@\n line 9997\n line 9998\n line 9999\n-line 10000\n+changed\n line 10001\n line 10002\n line 10003"
    )


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        (None, "", "(empty)"),
        (None, "x", "+x"),
        (None, "a\n\n", "+a\n+"),
        ("", "a\n", "@@ -0,0 +1 @@\n+a"),
        ("a\nb\n", "", "@@ -1,2 +0,0 @@\n-a\n-b"),
        ("a", "a\n", "@@ -1 +1 @@\n-a\n\\ no line break at the end\n+a"),
        ("a\n", "a", "@@ -1 +1 @@\n-a\n+a\n\\ no line break at the end"),
        ("x\na", "y\na", "@@ -1,2 +1,2 @@\n-x\n+y\n a\n\\ no line break at the end"),
        ("a\r\nb\r\n", "a\nb\n", "@@ -1,2 +1,2 @@\n-a\r\n-b\r\n+a\n+b"),
        ("same\n", "same\n", "(nothing changes)"),
    ],
)
def test_edges_of_files_are_told_apart(old: str | None, new: str, shown: str) -> None:
    assert diff(old, new) == shown


def test_changes_far_apart_are_shown_each_with_its_place() -> None:
    old = "".join(f"{number}\n" for number in range(100))
    new = old.replace("10\n", "ten\n", 1).replace("\n90\n", "\nninety\n")
    heads = [line for line in diff(old, new).split("\n") if line.startswith("@@")]
    assert heads == ["@@ -8,7 +8,7 @@", "@@ -88,7 +88,7 @@"]


def test_files_that_have_nothing_in_common_are_shown_whole_without_long_thought() -> None:
    old, new = ("".join(f"{word} {number % 7}\n" for number in range(5_000)) for word in ("old", "new"))
    lines = diff(old, new).split("\n")
    assert (sum(line[0] == "-" for line in lines), sum(line[0] == "+" for line in lines)) == (5_000, 5_000)


# --- characters ---

TRICKS = {
    "\x1b]0; rm -rf ~ \x07": "\\x1b]0; rm -rf ~ \\x07",
    "\x1b[8mhidden\x1b[0m": "\\x1b[8mhidden\\x1b[0m",
    "safe\rrm -rf ~": "safe\\rrm -rf ~",
    "a\u202egpj.exe": "a\\u202egpj.exe",
    "x\u200by": "x\\u200by",
    "x\U000e0041y": "x\\U000e0041y",
    "a\u00a0b": "a\\xa0b",
    "nul\0": "nul\\x00",
    "plain\n\ttext é 日本 👍": "plain\n\ttext é 日本 👍",
    "line\u2028break": "line\\u2028break",
}


@pytest.mark.parametrize(("text", "shown"), TRICKS.items())
def test_characters_that_nobody_sees_are_shown_by_their_number_and_nothing_is_left_out(text: str, shown: str) -> None:
    assert exact(text) == shown
    assert texts("run", rawInput={"command": text})["command"] == shown


def test_line_ends_of_other_systems_are_plain_in_a_text_and_visible_in_a_change() -> None:
    assert exact("a\r\nb") == "a\\r\nb"


def test_a_request_is_drawn_whole_in_a_terminal_and_in_a_notebook() -> None:
    from agentq_nb._display import document_of
    from agentq_nb._display.document import as_text
    from agentq_nb._display.html import as_html

    command = LONG * 4
    assert len(command) > 24_000
    document = document_of(
        PermissionRequest("s", "claude", f"`{command}`", "execute", {"rawInput": {"command": command}})
    )
    assert document is not None
    assert command in as_text(document)
    assert command in as_html(document)


def test_all_of_a_request_is_one_text_and_is_put_together_once() -> None:
    call = {"rawInput": {"command": LONG}, "locations": [{"path": "/x"}]}
    request = PermissionRequest("s", "claude", "Run it", "execute", call)
    assert request.text == f"Run it\n\ncommand:\n{LONG}\n\npaths:\n/x"
    assert request.parts is request.parts
    assert request.parts == (Part("command", LONG), Part("paths", "/x"))
    assert PermissionRequest("s", "claude", "a\u202eb", None, {}).text == "a\\u202eb"


@pytest.mark.parametrize(
    ("title", "heading"),
    [
        ("Write new.py", "Write new.py"),
        ("two\nlines  and\ttabs", "two lines and tabs"),
        ("x" * 121, "x" * 120 + "…"),
        (" " * 300 + "rm -rf ~", "…"),
        ("a\x1b[8mb\u202e", "a\\x1b[8mb\\u202e"),
    ],
)
def test_the_heading_is_one_short_line(title: str, heading: str) -> None:
    request = PermissionRequest("s", "claude", title, None, {})
    assert request.heading == heading
    assert title.strip() in "".join(part.text for part in request.parts) or len(title) < 121
