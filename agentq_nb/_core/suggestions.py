"""Errors for likely mistakes with queues and messages inside ``run``, each suggesting the correct line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn, cast

_OF_QUEUE: Mapping[str, str] = {
    **dict.fromkeys(("get", "receive", "recv", "pop", "take", "read", "consume", "poll", "dequeue"), "await {}.next()"),
    **dict.fromkeys(("get_nowait", "receive_nowait", "poll_nowait", "peek"), "await {}.try_next()"),
    **dict.fromkeys(("put", "put_nowait", "send", "add", "append", "enqueue", "publish", "emit"), "await {}.push(...)"),
    **dict.fromkeys(("messages", "stream", "listen", "subscribe", "items", "all"), "async for message in {}.iter():"),
}

_SETTLES = (
    "a message settles as done when the next one is asked for; with iter(completable=True) settle it yourself, by "
    "await message.complete(...)"
)

_OF_MESSAGE: Mapping[str, str] = {
    **dict.fromkeys(
        ("ack", "acknowledge", "done", "task_done", "finish", "success", "reply", "respond", "result", "resolve"),
        "await message.complete(...), after iter(completable=True)",
    ),
    **dict.fromkeys(
        ("nack", "reject", "error", "dead_letter"), "await message.fail(...), after iter(completable=True)"
    ),
    **dict.fromkeys(("requeue", "release", "again", "defer", "redeliver"), "await message.retry(...)"),
    **dict.fromkeys(("payload", "data", "content", "value", "json", "get", "text", "message"), "message.body"),
}

_MESSAGE = ("after", "attempt", "body", "complete", "created_at", "fail", "id", "queue", "retry")


class NearMisses:
    """Base of queues as an actor sees them: not an iterator, and not an ``asyncio.Queue``."""

    @property
    def _written(self) -> str:
        """The expression for it in the actor's code."""
        return "self.queue"

    if not TYPE_CHECKING:  # a type checker finds these by itself

        def __aiter__(self) -> NoReturn:
            raise TypeError(f"{self._written} is no loop itself: write async for message in {self._written}.iter():")

        def __iter__(self) -> NoReturn:
            raise TypeError(f"Messages are waited for: write async for message in {self._written}.iter():")

        def __await__(self) -> NoReturn:
            raise TypeError(f"{self._written} is no message: write await {self._written}.next()")

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            written = self._written
            if name in ("task_done", "ack", "join"):
                raise AttributeError(f"{written} has no {name}: {_SETTLES}.")
            if name in _OF_QUEUE:
                raise AttributeError(f"{written} has no {name}: write {_OF_QUEUE[name].format(written)}")
            if name in self._declared():
                raise AttributeError(f"{written} has no {name}: the queue '{name}' is self.{name}")
            known = [known for known in dir(type(self)) if not known.startswith("_")]
            raise AttributeError(f"{written} has no {name}.{did_you_mean(name, known)}")

    def _declared(self) -> Iterable[str]:
        return ()


class AsyncOnly:
    """Base of what ``iter`` returns: it supports ``async for`` and nothing else."""

    if not TYPE_CHECKING:

        def __iter__(self) -> NoReturn:
            raise TypeError("Messages are waited for: write async for message in ….iter(): instead of for.")

        def __await__(self) -> NoReturn:
            raise TypeError(
                "iter() is not awaited: write async for message in ….iter():, or await ….next() for one message."
            )


def no_attribute_of_message(name: str) -> str:
    """Return the error text for an unknown attribute of a message, with what to write instead."""
    if name in _OF_MESSAGE:
        return f"A message has no {name}: write {_OF_MESSAGE[name]}"
    return f"A message has no {name}; it has {', '.join(_MESSAGE)}.{did_you_mean(name, _MESSAGE)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question for the end of an error text, or an empty text."""
    close = get_close_matches(name, list(known), 1)
    return f" Did you mean '{close[0]}'?" if close else ""


def read_names(names: Any) -> tuple[str, ...]:
    """Return several queue names as a tuple. Raises TypeError for anything else."""
    if names is None:
        return ()
    if isinstance(names, (int, float)):
        raise TypeError(
            f"The first argument names queues, and {names} is none. A time to wait is given by name: timeout=…"
        )
    if not isinstance(names, (list, tuple, set, frozenset)):
        name = getattr(names, "name", None) or getattr(getattr(names, "_queue", None), "name", "tasks")
        raise TypeError(f"Queues are given by their names here. Write self.queue.iter('{name}'), or self.{name}.iter()")
    return tuple(cast(Iterable[str], names))


def check_completable(completable: object, names: object) -> None:
    """Raise TypeError where a second queue's name was given in its place."""
    if not isinstance(completable, bool):
        raise TypeError(
            f"completable is True or False, not {completable!r}. Several queues are given as a list: "
            f"self.queue.iter([{names!r}, {completable!r}])"
        )
