"""What ``@queue.handler`` accepts, and what a bad declaration says, when the class is defined."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from agentq_nb import Actor, Message, Queue, Retry


def test_methods_with_and_without_message_async_and_plain_are_handlers() -> None:
    class Worker(Actor):
        a = Queue(str)
        b = Queue(str)
        c = Queue(str)

        @a.handler
        async def on_a(self, body: str) -> None: ...

        @b.handler
        def on_b(self, body: str, message: Message[str, Any]) -> str:
            return body

        @c.handler
        def _private(self, body: str, times: int = 2) -> None: ...

    found = {
        queue: (handler.name, handler.takes_message, handler.is_async)
        for queue, handler in Worker.declared.handlers.items()
    }
    assert found == {"a": ("on_a", False, True), "b": ("on_b", True, False), "c": ("_private", False, False)}


def test_a_method_may_handle_two_queues() -> None:
    class Worker(Actor):
        a = Queue(str)
        b = Queue(str)

        @a.handler
        @b.handler
        async def work(self, body: str) -> None: ...

    assert {queue: handler.name for queue, handler in Worker.declared.handlers.items()} == {"a": "work", "b": "work"}


def test_a_wrapped_method_is_called_as_what_it_wraps() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    class Worker(Actor):
        a = Queue(str)

        @a.handler
        @logged
        async def on_a(self, body: str, message: Message[str, Any]) -> None: ...

    handler = Worker.declared.handlers["a"]
    assert (handler.takes_message, handler.is_async) == (True, True)


def test_handlers_are_inherited_overridden_and_replaced() -> None:
    class Base(Actor):
        a = Queue(str)
        b = Queue(str)

        @a.handler
        async def on_a(self, body: str) -> None: ...

        @b.handler
        async def on_b(self, body: str) -> None: ...

    class Child(Base):
        b = Queue(int, concurrency=2)

        def on_a(self, body: str, message: Message[str, Any]) -> None:  # type: ignore[override]
            ...

        @Base.b.handler
        async def other(self, body: str) -> None: ...

    class Grandchild(Child): ...

    handlers = Grandchild.declared.handlers
    assert handlers["a"].function is vars(Child)["on_a"]
    assert (handlers["a"].takes_message, handlers["a"].is_async) == (True, False)
    assert handlers["b"].name == "other"
    assert Base.declared.handlers["b"].name == "on_b"


def refused(define: Callable[[], object], *parts: str) -> None:
    with pytest.raises(TypeError) as caught:
        define()
    for part in parts:
        assert part in str(caught.value)


def test_a_wrong_number_of_parameters_is_refused() -> None:
    def none() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler  # type: ignore[arg-type]
            async def on_a(self) -> None: ...

        return Worker

    def four() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler  # type: ignore[arg-type]
            async def on_a(self, body: str, message: Any, more: int) -> None: ...

        return Worker

    def by_name() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler  # type: ignore[arg-type]
            async def on_a(self, body: str, *, more: int) -> None: ...

        return Worker

    def hidden() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler
            async def on_a(*args: Any) -> None: ...

        return Worker

    def without_self() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler
            async def on_a(body: str, message: Any) -> None:  # noqa: N805
                ...

        return Worker

    for define in (none, four, by_name, hidden, without_self):
        refused(define, "on_a", "(self, body)", "(self, body, message)")


def test_two_handlers_of_one_queue_are_refused() -> None:
    def define() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler
            async def first(self, body: str) -> None: ...

            @a.handler
            async def second(self, body: str) -> None: ...

        return Worker

    refused(define, "Worker", "'a'", "first", "second")


def test_a_queue_of_another_class_is_refused() -> None:
    class Other(Actor):
        a = Queue(str)

    def define() -> object:
        class Worker(Actor):
            a = Queue(str)

            @Other.a.handler
            async def on_a(self, body: str) -> None: ...

        return Worker

    refused(define, "Worker.on_a", "another class")


def test_what_is_no_method_is_refused() -> None:
    queue = Queue(str)
    for value in (5, "work", staticmethod(len), property(len), str, functools.partial(len)):
        refused(functools.partial(queue.handler, value), "handler", "method")  # type: ignore[arg-type]
    refused(lambda: queue.handler(), "without ()")  # type: ignore[call-overload]

    def static() -> object:
        class Worker(Actor):
            a = Queue(str)

            @staticmethod
            @a.handler
            def on_a(self: Any, body: str) -> None: ...

        return Worker

    refused(static, "Worker.on_a", "method")


def test_generators_are_refused() -> None:
    def plain() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler
            def on_a(self, body: str) -> Iterator[int]:
                yield 1

        return Worker

    def asynchronous() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler  # type: ignore[arg-type]
            async def on_a(self, body: str) -> AsyncIterator[int]:
                yield 1

        return Worker

    for define in (plain, asynchronous):
        refused(define, "on_a", "yield")


def test_a_handler_may_not_take_the_place_of_what_every_actor_has() -> None:
    def hook() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler
            async def run(self, body: str) -> None:  # type: ignore[override]
                ...

        return Worker

    def method() -> object:
        class Worker(Actor):
            a = Queue(str)

            @a.handler
            async def broadcast(self, body: str) -> None:  # type: ignore[override]
                ...

        return Worker

    refused(hook, "Worker.run")
    refused(method, "Worker.broadcast")


def test_hiding_an_inherited_handler_by_something_else_is_refused() -> None:
    class Base(Actor):
        a = Queue(str)

        @a.handler
        async def on_a(self, body: str) -> None: ...

    refused(lambda: type("Child", (Base,), {"on_a": None}), "Child.on_a", "Base")


def test_concurrency_is_a_whole_number_and_excludes_in_order() -> None:
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="concurrency"):
            Queue(str, concurrency=wrong)  # type: ignore[arg-type]
    refused(lambda: Queue(str, concurrency=2, retry=Retry(in_order=True)), "concurrency", "in_order")
    assert Queue(str, retry=Retry(in_order=True)).concurrency == 1


def test_names_of_other_frameworks_point_to_the_decorator() -> None:
    def define() -> object:
        class Worker(Actor):
            a = Queue(str)

            async def handle_message(self, body: str) -> None: ...

        return Worker

    refused(define, "Worker.handle_message", "@a.handler")


def test_such_a_name_is_fine_for_a_handler() -> None:
    class Worker(Actor):
        a = Queue(str)

        @a.handler
        async def handle_message(self, body: str) -> None: ...

    assert "a" in Worker.declared.handlers


def test_a_queue_that_is_declared_again_keeps_the_place_it_has_in_the_base_class() -> None:
    class Base(Actor):
        first = Queue(str)
        second = Queue(str)

    class Wider(Base):
        third = Queue(str)
        first = Queue(str, max_size=5)

    assert list(Wider.declared.queues) == ["first", "second", "third"]
    assert Wider.declared.queues["first"].max_size == 5
