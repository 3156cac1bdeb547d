"""A queue that is annotated and not assigned would not exist: the class is refused, with the line to write instead."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from agentq_nb import Actor, Queue

CLASS = """
import asyncio
from typing import ClassVar
import agentq_nb as aq
from agentq_nb import Actor, Queue
class Worker(Actor):
    {line}
    async def run(self): ...
"""


def define(line: str, *, postponed: bool) -> Any:
    source = ("from __future__ import annotations" if postponed else "") + CLASS.format(line=line)
    names: dict[str, Any] = {"__name__": "cell"}
    exec(compile(source, "cell", "exec", dont_inherit=True), names)
    return names["Worker"]


@pytest.mark.parametrize("postponed", [False, True])
@pytest.mark.parametrize(
    ("line", "write"),
    [
        ("tasks: Queue[dict]", "write tasks = Queue(dict)."),
        ("tasks: Queue[dict, str]", "write tasks = Queue(dict, reply=str)."),
        ("tasks: 'Queue[dict]'", "write tasks = Queue(dict)."),
        ("tasks: aq.Queue[dict]", "write tasks = Queue(dict)."),
        ("tasks: ClassVar[Queue[dict]]", "write tasks = Queue(dict)."),
        ("tasks: Queue(dict)", "write tasks = Queue(dict)."),
        ("tasks: Queue", "write tasks = Queue(dict), with"),
        ("declared: Queue[dict]", "every actor has a 'declared' already: write tasks = Queue(dict)"),
        ("queue: Queue[dict]", "every actor has a 'queue' already: write tasks = Queue(dict)"),
    ],
)
def test_a_queue_that_is_only_annotated_is_refused_with_the_line_to_write(
    line: str, write: str, postponed: bool
) -> None:
    with pytest.raises(TypeError, match="only annotated") as caught:
        define(line, postponed=postponed)
    assert write in str(caught.value)


def test_one_whose_type_is_not_known_yet_is_refused_too() -> None:
    with pytest.raises(TypeError, match=r"write tasks = Queue\(Task\)"):
        define("tasks: Queue[Task]", postponed=True)


@pytest.mark.parametrize(
    ("line", "postponed"),
    [("jobs: asyncio.Queue", False), ("jobs: asyncio.Queue", True), ("limit: int", False), ("limit: Unknown", True)],
)
def test_other_annotations_are_left_alone(line: str, postponed: bool) -> None:
    assert not define(line, postponed=postponed).declared.queues


def test_an_inherited_queue_may_be_annotated_again() -> None:
    class Base(Actor):
        tasks = Queue(dict)

        async def run(self) -> None: ...

    class Derived(Base):
        tasks: ClassVar[Queue[dict[str, Any]]]
        jobs: asyncio.Queue[int]

    assert list(Derived.declared.queues) == ["tasks"]
