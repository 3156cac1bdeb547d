"""Failures in words: what is written down about an exception."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import anyio.to_thread
import pytest
from IPython.core.compilerop import CachingCompiler

from agentq_nb._actor.message import clean, describe, describe_text, headline
from agentq_nb._core.ids import actor_id
from agentq_nb.errors import UserError, ValidationFailed


def test_a_traceback_shows_the_lines_of_the_user_and_not_those_of_the_package() -> None:
    with pytest.raises(ValidationFailed) as caught:
        actor_id("name", [3])  # type: ignore[list-item]
    told = describe(caught.value)["traceback"]
    assert "test_messages.py" in told
    assert "naming.py" not in told
    assert told.rstrip().endswith("[actor.validation_error]")


def test_a_line_of_a_cell_is_named_as_ipython_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = CachingCompiler()
    monkeypatch.setattr("agentq_nb._core.programs._shell", lambda: SimpleNamespace(compile=compiler))
    source = "def parse(text):\n    return json.loads(text)\n"
    name = compiler.cache(source, number=3)
    namespace: dict[str, Any] = {"json": json}
    exec(compile(source, name, "exec"), namespace)
    with pytest.raises(json.JSONDecodeError) as caught:
        namespace["parse"]("{")
    told = describe(caught.value)["traceback"]
    assert "  Cell In[3], line 2, in parse\n    return json.loads(text)\n" in told
    assert name not in told
    assert 'File "' in told, "those of libraries are named as ever"


async def _fail_in_a_library() -> None:
    json.loads("{")


async def _through_a_task_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_fail_in_a_library)


@contextlib.contextmanager
def _in_other_words() -> Iterator[None]:
    try:
        yield
    except json.JSONDecodeError as error:
        raise json.JSONDecodeError("no JSON", error.doc, error.pos) from error


async def _through_a_context_manager() -> None:
    with _in_other_words():
        await _fail_in_a_library()


@pytest.mark.parametrize(
    "work",
    [
        lambda: asyncio.to_thread(json.loads, "{"),
        _through_a_context_manager,
        lambda: asyncio.wait_for(_fail_in_a_library(), 5),
        lambda: anyio.to_thread.run_sync(lambda: json.loads("{")),
        _through_a_task_group,
    ],
)
def test_a_traceback_shows_no_frames_of_the_event_loop_and_keeps_those_of_other_libraries(
    work: Callable[[], Awaitable[object]],
) -> None:
    async def run() -> None:
        await work()

    with pytest.raises((json.JSONDecodeError, ExceptionGroup)) as caught:
        asyncio.run(run())
    told = describe(caught.value)["traceback"]
    assert "json/decoder.py" in told
    assert "test_messages.py" in told
    assert "/asyncio/" not in told
    assert "/anyio/" not in told
    assert "/concurrent/" not in told
    assert "contextlib.py" not in told


def test_causes_and_groups_are_told_too() -> None:
    group = ExceptionGroup("both", [KeyError("inner")])
    group.__cause__ = ValueError("first")
    with pytest.raises(ExceptionGroup) as caught:
        raise group
    told = describe(caught.value)["traceback"]
    assert all(text in told for text in ("first", "both", "inner"))


def test_lines_are_parsed_only_where_threads_may_do_so_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda source, *others: [parsed.append(source), parse(source, *others)][1])
    with pytest.raises(ZeroDivisionError) as caught:
        print(1 / 0, "rest of the line")
    assert "1 / 0" in describe(caught.value)["traceback"]
    assert bool(parsed) == (sys.version_info >= (3, 12))


@pytest.mark.parametrize("metadata", [{"x": float("nan")}, {"x": "\ud800"}, {"x": object()}, {"x": {1, 2}}])
def test_metadata_that_is_not_json_is_told_as_text(metadata: dict[str, object]) -> None:
    described = describe(UserError("no", metadata=metadata), with_traceback=False)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert "x" in described["metadata"]


def test_text_that_no_file_can_hold_is_replaced() -> None:
    assert clean("a\ud800b\0c") == "a?b\ufffdc"


def test_an_endless_traceback_is_cut_at_its_beginning() -> None:
    def deeper(level: int) -> None:
        if level:
            deeper(level - 1) if level % 2 else _other(level - 1)
        raise ValueError("the end")

    def _other(level: int) -> None:
        deeper(level)

    with pytest.raises(ValueError, match="the end") as caught:
        deeper(400)
    told = describe(caught.value)["traceback"]
    assert len(told) <= 20_000
    assert told.rstrip().endswith("the end")


def test_a_headline_names_the_type_of_an_exception_and_nothing_beside_words_of_a_handler() -> None:
    assert headline(describe(KeyError("auth.py"))) == "KeyError: 'auth.py'"
    assert headline(describe(ValueError())) == "ValueError"
    assert headline(describe_text("the file is empty")) == "the file is empty"
