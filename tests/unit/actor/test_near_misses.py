"""What people write by analogy with other libraries: each is an error at once, and it says the right line."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, AgentqError, Queue, create_client, setup

IMPORTS = """
import asyncio, queue
from typing import Any
from agentq_nb import Actor, AgentqError, Queue, action
"""


def define(body: str, *, before: str = "") -> type[Actor]:
    """A class as a cell defines it."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    source = IMPORTS + before + "class Tasks(Actor):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    exec(compile(source, "cell", "exec", dont_inherit=True), namespace)
    return namespace["Tasks"]


LOOP = "async for message in self.queue.iter():"

CLASSES = {
    "def run(self): ...": "async def run(self)",
    "async def run(self): yield 1": "must not yield",
    "def run(self): yield 1": "must not yield",
    "async def run(self, message): ...": "async def run(self)",
    "run = None": "async def run(self)",
    "async def Run(self): ...": "'run'",
    "async def on_Wake(self): ...": "'on_wake'",
    "async def onWake(self): ...": "'on_wake'",
    "async def on_wakeup(self): ...": "'on_wake'",
    "async def on_start(self): ...": "'on_wake'",
    "async def on_awake(self): ...": "'on_wake'",
    "async def on_creat(self, input): ...": "'on_create'",
    "async def on_init(self): ...": "'on_create'",
    "async def on_stop(self): ...": "'on_sleep'",
    "async def on_shutdown(self): ...": "'on_sleep'",
    "async def on_delete(self): ...": "'on_destroy'",
    "async def on_create(self): ...": "async def on_create(self, input)",
    "async def on_wake(self, input): ...": "async def on_wake(self)",
    "async def on_wake(self): yield 1": "must not yield",
    "tasks = Queue(dict)\nasync def on_message(self, message): ...": LOOP,
    "tasks = Queue(dict)\nasync def handle(self, message): ...": LOOP,
    "tasks = Queue(dict)\nasync def main(self): ...": LOOP,
    "tasks = Queue[dict]": "tasks = Queue(dict)",
    "tasks = Queue": "tasks = Queue(",
    "tasks: Queue[dict]": "tasks = Queue(dict)",
    "tasks: 'Queue[dict]'": "tasks = Queue(dict)",
    "tasks: Queue(dict)": "tasks = Queue(dict)",
    "tasks: Queue[dict, str]": "tasks = Queue(dict, reply=str)",
    "tasks = asyncio.Queue()": "tasks = Queue(",
    "tasks = queue.Queue()": "tasks = Queue(",
    "tasks = [Queue(dict)]": "each queue a name of its own",
    "tasks = {'a': Queue(dict)}": "each queue a name of its own",
    "tasks = Queue()": "Queue(dict)",
    "tasks = Queue('tasks')": "Queue(dict)",
    "tasks = Queue({'a': int})": "Queue(dict)",
    "tasks = Queue(5)": "Queue(dict)",
    "tasks = Queue(dict, 5)": "reply=",
    "tasks = Queue(int)\ntasks = Queue(str)": "twice",
    "tasks = Queue(int)\nasync def tasks(self): ...": "twice",
    "@action\ndef ask(self): ...\n@action\ndef ask(self, what): ...": "twice",
    "async def run(self): ...\nasync def run(self): ...": "twice",
    "def __init__(self):\n    self.tasks = Queue(dict)": "in the class's body",
    "async def on_create(self, input):\n    self.tasks = Queue(dict)": "in the class's body",
    "state = {'done': 0}": "state: Counter",
    "name = 'reviewer'": "'name'",
    "queue = []": "'queue'",
    "def sleep(self, seconds): ...": "'sleep'",
    "log = print": "'log'",
    "declared = Queue(dict)": "already; rename the queue",
    "@action\nasync def declared(self): ...": "already; rename the action",
    "tasks = Queue(dict)\n@tasks.handler\nasync def declared(self, body): ...": "already: rename it",
    "declared = 3": "already: rename it",
    "@action\nasync def ask(self): yield 1": "must not yield",
    "@action\n@staticmethod\ndef ask(): ...": "ask(self",
    "@staticmethod\n@action\ndef ask(): ...": "ask(self",
    "@classmethod\n@action\ndef ask(cls): ...": "ask(self",
    "@property\n@action\ndef ask(self): ...": "ask(self",
    "@action\ndef ask(): ...": "ask(self",
}


@pytest.mark.parametrize("body", CLASSES, ids=lambda body: body.replace("\n", "; "))
def test_a_class_that_cannot_work_is_refused_when_it_is_defined(body: str) -> None:
    with pytest.raises(TypeError) as refused:
        define(body)
    assert CLASSES[body] in str(refused.value)


@pytest.mark.parametrize("body", ["tasks = []", "def tasks(self): ...", "def ask(self): ...", "ask = None"])
def test_what_a_base_declares_is_not_hidden(body: str) -> None:
    base = "class Base(Actor):\n    tasks = Queue(dict)\n    @action\n    def ask(self): ...\n"
    with pytest.raises(TypeError, match="Base"):
        define("...", before=base + "class Hides(Base):\n" + textwrap.indent(body, "    ") + "\n")


def test_a_mixin_does_not_hide_what_every_actor_declares() -> None:
    mixin = "class Mixin:\n    def declared(self): ...\n"
    with pytest.raises(TypeError, match=r"Mixin\.declared hides 'declared', which every actor has already: rename it"):
        define("...", before=mixin + "class Mixed(Mixin, Actor): ...\n")


def test_a_class_made_again_with_slots_keeps_what_it_declares() -> None:
    @dataclasses.dataclass(slots=True)
    class Slotted(Actor, sleep_timeout=7):
        tasks = Queue(dict)

    assert set(Slotted.declared.queues) == {"tasks"}
    assert Slotted.declared.sleep_timeout == 7


RIGHT = [
    "tasks = Queue(dict)\nasync def run(self):\n    await self.on_start()\nasync def on_start(self): ...",
    "tasks = Queue(dict)\nasync def run(self): ...\nasync def handle(self, message): ...",
    "@action\nasync def on_start(self): ...",
    "@action\nasync def handle(self): ...",
    "tasks = Queue(dict)\n@action\nasync def work(self):\n    await self.handle(1)\nasync def handle(self, message): ...",
    "if True:\n    tasks = Queue(dict)\nelse:\n    tasks = Queue(int)",
    "def on_wake(self): ...",
    "async def on_create(self, *args): ...",
    "async def on_create(self, input=None): ...",
    "async def on_create(self, given): ...",
    "_cache = asyncio.Queue()",
    "def __init__(self):\n    self.cache = asyncio.Queue()",
    "@staticmethod\ndef migrate_state(old): ...",
    "@property\ndef size(self): ...\n@size.setter\ndef size(self, value): ...",
    "tasks = Queue(dict | None, reply=str)",
    "tasks = Queue(Any)",
    "limit = 3\ntasks: Any = Queue(dict)",
]


@pytest.mark.parametrize("body", RIGHT, ids=lambda body: body.replace("\n", "; "))
def test_what_works_is_not_refused(body: str) -> None:
    define(body)


def test_a_run_behind_a_decorator_is_no_mistake() -> None:
    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def traced_function(*args: Any) -> Any:
            return function(*args)

        return traced_function

    class Traced(Actor):
        @traced
        async def run(self) -> None: ...

    assert Traced.declared.queues == {}


def test_a_first_state_of_none_is_no_attribute_that_hides_the_state() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    lines = "from pydantic import BaseModel\nclass S(BaseModel): ...\nclass A(Actor):\n    state: S = None\n"
    exec(compile(IMPORTS + lines, "cell", "exec", dont_inherit=True), namespace)
    assert isinstance(namespace["A"].state, property)


# --- inside run -------------------------------------------------------------------------------------------------------


async def of_run(folder: Path, run: Callable[[Any], Any]) -> str:
    """What a line in ``run`` raises."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    class Tasks(Actor):
        tasks: Queue[Any, Any] = Queue(Any)
        others: Queue[Any, Any] = Queue(Any)

        async def run(self) -> None:
            try:
                await run(self)
            except (TypeError, AttributeError, AgentqError) as error:
                if not told.done():
                    told.set_result(f"{type(error).__name__}: {error}")

    async with setup(use={"tasks": Tasks}, store=folder / "near.duckdb"):
        handle = create_client().tasks.get_or_create("main")
        await handle.send("tasks", 1)
        return await asyncio.wait_for(told, 20)


async def over_the_mailbox(self: Any) -> None:
    async for _ in self.queue:
        pass


async def plainly_over_the_mailbox(self: Any) -> None:
    for _ in self.queue:
        pass


async def over_a_view(self: Any) -> None:
    async for _ in self.tasks:
        pass


async def plainly_over_iter(self: Any) -> None:
    for _ in self.queue.iter():
        pass


async def awaiting_iter(self: Any) -> None:
    await self.queue.iter()


async def awaiting_the_mailbox(self: Any) -> None:
    await self.queue


IN_RUN: dict[Callable[[Any], Any], str] = {
    over_the_mailbox: "async for message in self.queue.iter():",
    plainly_over_the_mailbox: "async for message in self.queue.iter():",
    over_a_view: "async for message in self.tasks.iter():",
    plainly_over_iter: "async for",
    awaiting_iter: "async for",
    awaiting_the_mailbox: "await self.queue.next()",
}


@pytest.mark.parametrize("run", IN_RUN, ids=lambda run: run.__name__)
def test_a_loop_over_the_wrong_thing_says_the_right_line(tmp_path: Path, run: Callable[[Any], Any]) -> None:
    told = asyncio.run(of_run(tmp_path, run))
    assert told.startswith("TypeError")
    assert IN_RUN[run] in told


LINES = {
    "self.queue.get()": "await self.queue.next()",
    "self.queue.get_nowait()": "await self.queue.try_next()",
    "self.queue.put(1)": "await self.queue.push(",
    "self.queue.task_done()": "settles",
    "self.queue.receive()": "await self.queue.next()",
    "self.queue.messages()": "self.queue.iter()",
    "self.queue.tasks": "self.tasks",
    "self.queue.itr()": "'iter'",
    "self.tasks.get()": "await self.tasks.next()",
    "self.tasks.put(1)": "await self.tasks.push(",
    "self.tasks.send(1)": "await self.tasks.push(",
    "self.queue.iter('tasks', 'others')": "self.queue.iter(['tasks', 'others'])",
    "self.queue.iter(self.tasks)": "self.tasks.iter()",
    "await self.queue.next(5)": "timeout=",
    "await self.tasks.next('others')": "timeout",
    "(await self.queue.next()).ack()": "await message.complete(",
    "(await self.queue.next()).nack()": "await message.fail(",
    "(await self.queue.next()).done()": "await message.complete(",
    "(await self.queue.next()).requeue()": "await message.retry(",
    "(await self.queue.next()).reply('x')": "await message.complete(",
    "(await self.queue.next()).payload": "message.body",
    "(await self.queue.next()).data": "message.body",
    "(await self.queue.next()).complet('x')": "'complete'",
    "(await self.queue.next())['a']": "message.body",
}


@pytest.mark.parametrize("line", LINES)
def test_a_wrong_name_says_the_right_line(tmp_path: Path, line: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"async def run(self):\n    {line}", namespace)
    assert LINES[line] in asyncio.run(of_run(tmp_path, namespace["run"]))


def test_an_instance_that_somebody_made_says_how_actors_are_had() -> None:
    class TaskRunner(Actor):
        pass

    with pytest.raises(AttributeError, match=r"create_client\(\)\.task_runner\.get_or_create"):
        _ = TaskRunner().queue
    assert "not awake" in repr(TaskRunner())
