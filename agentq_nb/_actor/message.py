"""The Message that a handler receives, and descriptions of errors as JSON.

Life cycle of a message: *queued* (or delayed, or blocked) → *running*, each start an attempt → settled: *completed*, *failed* (a
dead letter) or *cancelled*. A failed or released attempt puts it back to *queued*.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol

import anyio
from typing_extensions import TypeVar

from agentq_nb._core import number_options
from agentq_nb._core.ids import MessageId
from agentq_nb._core.programs import cell_of
from agentq_nb._core.redaction import without_secrets
from agentq_nb._core.safe_text import safe
from agentq_nb._core.suggestions import no_attribute_of_message
from agentq_nb.errors import AgentqError

Body = TypeVar("Body")
Reply = TypeVar("Reply", default=Any)

SCHEDULE_QUEUE = "$schedule"
"""Queue of scheduled actions, which are messages: durable, retried and counted like any other."""

CRON_QUEUE = "$cron"
"""Queue of the next call of each cron schedule."""

INTERNAL_QUEUES = (SCHEDULE_QUEUE, CRON_QUEUE)

_LONGEST_TRACEBACK = 20_000
_LONGEST_BRIEF = 300
# To mark the failed part of a line, the traceback module parses it. In Python 3.11 two threads that parse at the same
# time may both fail with SystemError during garbage collection, and the kernel's own thread parses cells.
_MAY_PARSE = sys.version_info >= (3, 12)
_NOT_THE_USERS = (
    f"{Path(__file__).parents[1]}{os.sep}",
    *(f"{Path(package).parent}{os.sep}" for package in (anyio.__file__, asyncio.__file__)),
    contextlib.__file__,
    concurrent.futures.thread.__file__,
)
"""Locations of code that is not the user's: this package, and the libraries of its event loop."""


def describe(error: BaseException, *, with_traceback: bool = True) -> dict[str, Any]:
    """Return an exception as a JSON object: ``group``, ``code``, ``message``, ``type``, and the text of its traceback.

    Secrets known to this process are redacted: some libraries quote a key that was refused, and a traceback quotes the
    line where it was given.
    """
    known = isinstance(error, AgentqError)
    described: dict[str, Any] = {
        "group": _text_of(error.group) if known else "user",
        "code": _text_of(error.code) if known else "error",
        "message": _text_of(error.message if known else error) or type(error).__name__,
        "type": type(error).__name__,
    }
    if known and error.metadata:
        described["metadata"] = _plain(error.metadata)
    if with_traceback and error.__traceback__ is not None:
        text = clean(_format(error))
        described["traceback"] = text if len(text) <= _LONGEST_TRACEBACK else text[-_LONGEST_TRACEBACK:]
    return without_secrets(described)


def _format(error: BaseException) -> str:
    """Return the traceback's text, without our frames and the event loop's (no use to users) where there are others."""
    whole = traceback.TracebackException.from_exception(error)
    pending = [whole]
    while pending:
        part = pending.pop()
        theirs = [frame for frame in part.stack if is_users(frame.filename)]
        part.stack = _Frames(theirs or part.stack)
        if not _MAY_PARSE:
            for frame in part.stack:
                frame.colno = None
        pending += [
            other for other in (part.__cause__, part.__context__, *(part.exceptions or ())) if other is not None
        ]
    return "".join(whole.format())


class _Frames(traceback.StackSummary):
    """Names a line of a cell as IPython does, instead of the meaningless file name that Python has for the cell."""

    def format_frame_summary(self, frame_summary: traceback.FrameSummary, **options: Any) -> str:
        text = super().format_frame_summary(frame_summary, **options)
        cell = cell_of(frame_summary.filename)
        return text if cell is None else text.replace(f'File "{frame_summary.filename}"', cell, 1)


def is_ours(filename: str) -> bool:
    """Whether a frame of this file belongs to this package."""
    return filename.startswith(_NOT_THE_USERS[0])


def is_users(filename: str) -> bool:
    """Whether a frame of this file is useful to the user: their code, or that of a library they use."""
    return not filename.startswith(_NOT_THE_USERS)


def _text_of(value: object) -> str:
    """Return ``value`` as text. Even ``str`` may fail for a user's exception."""
    try:
        return clean(str(value))
    except Exception:
        return f"(a {type(value).__name__} that cannot be shown as text)"


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as valid JSON: other values become text."""
    try:
        return json.loads(clean(json.dumps(metadata, ensure_ascii=False, allow_nan=False, default=_text_of)))
    except (TypeError, ValueError, RecursionError):
        return {_text_of(name): _text_of(value) for name, value in metadata.items()}


def describe_text(message: str) -> dict[str, Any]:
    """Return a failure that the handler described as text."""
    return {"group": "user", "code": "failed", "message": clean(message), "type": "str"}


def headline(error: Mapping[str, Any]) -> str:
    """Return a described failure in short, with its type: many messages (``KeyError``) are unclear without it."""
    message, kind = str(error.get("message", "")), str(error.get("type", "str"))
    return message if kind in ("str", message) else f"{kind}: {message}"


def brief(error: Mapping[str, Any] | None) -> str | None:
    """Return :func:`headline` on one line of a few hundred characters; None for no failure."""
    return safe(" ".join(headline(error).split()), _LONGEST_BRIEF) if error else None


def clean(text: str) -> str:
    """Return text that any file or page can hold: lone surrogates and NUL are replaced."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


class Settler(Protocol):
    """Settles the messages that it delivered."""

    def complete(
        self, message: Message[Any, Any], reply: Any, update: Callable[[Any], Any] | None
    ) -> Coroutine[Any, Any, None]: ...
    def fail(self, message: Message[Any, Any], error: BaseException | str) -> Coroutine[Any, Any, None]: ...
    def retry(self, message: Message[Any, Any], after: float | None) -> Coroutine[Any, Any, None]: ...


class Predecessor(Protocol):
    """The result of a message that another was sent after, in ``message.after``: see :class:`agentq_nb.Result`."""

    @property
    def message_id(self) -> MessageId: ...
    @property
    def status(self) -> str: ...
    @property
    def response(self) -> Any: ...
    @property
    def error(self) -> Mapping[str, Any] | None: ...


class Message(Generic[Body, Reply]):
    """A message as its handler receives it: one attempt.

        async for message in self.queue.iter(completable=True):
            await message.complete({"stars": 5})        # or message.fail("why"), or message.retry(after=60)

    :ivar id: the message's id, the same across attempts and restarts.
    :ivar queue: the name of the queue it came from.
    :ivar body: the body, as the queue's declared type.
    :ivar attempt: the number of this attempt. It starts at 1 and goes up by one after each failed attempt or crash, but
        not after a clean stop. ``redeliver`` resets it to 1, so use ``id`` to detect repeats.
    :ivar created_at: when it was sent, in seconds since 1970 (UTC).
    :ivar released_because: the provider's limit, or the budget, that an attempt since the last failed one met: it was put back
        without counting, and its session with an agent may have got far by then. None if none did.
    """

    __slots__ = ("_after", "_settler", "attempt", "body", "created_at", "id", "queue", "released_because")

    def __init__(
        self,
        settler: Settler,
        *,
        id: MessageId,
        queue: str,
        body: Body,
        attempt: int,
        created_at: float,
        after: Callable[[], Sequence[Predecessor]] | None = None,
        released_because: str | None = None,
    ) -> None:
        """``after`` returns the results of the messages that it was sent after."""
        self._settler = settler
        self._after: Callable[[], Sequence[Predecessor]] | Sequence[Predecessor] = after or ()
        self.id = id
        self.queue = queue
        self.body = body
        self.attempt = attempt
        self.created_at = created_at
        self.released_because = released_because

    @property
    def after(self) -> Sequence[Predecessor]:
        """The results of the messages that it was sent after, in the order given: ``message.after[0].response``.

        Empty if it was sent without ``after``. Responses have the type that the queue of each declares as its reply.
        """
        if callable(self._after):
            self._after = self._after()
        return self._after

    def _settle_through(self, settler: Settler) -> None:
        """Pass later calls of ``complete``, ``fail`` and ``retry`` to another settler."""
        self._settler = settler

    async def complete(self, reply: Reply | None = None, *, update: Callable[[Any], Any] | None = None) -> None:
        """Settle the message as completed; durable on return, together with the handler's changes to ``self.state``.

        :param reply: the reply, as the queue's declared type. The sender reads it from the result, now or later.
        :param update: a function that is called with the actor's current state. It changes that state, or returns another
            one, in the same write. Use it where ``concurrency`` is above 1.

        Raises:

        * ``queue.already_completed``.
        * ``queue.complete_not_configured``: the message was received without ``completable=True``.
        * ``actor.validation_error`` or ``queue.reply_too_large``: the reply does not fit, and nothing was written.
          Complete the message with another reply. If the handler lets ``queue.reply_too_large`` propagate, the message
          becomes a dead letter.
        * ``actor.state_conflict``: the attempt has failed and is repeated.
        """
        await self._settler.complete(self, reply, update)

    async def fail(self, error: BaseException | str) -> None:
        """Settle the message as failed, without another attempt: a dead letter with ``error`` as the reason.

        Durable on return. The handler's changes to ``self.state`` are dropped. Raises ``queue.already_completed`` and
        ``queue.complete_not_configured``.
        """
        await self._settler.fail(self, error)

    async def retry(self, after: float | None = None) -> None:
        """End this attempt as failed. The next one begins after ``after`` seconds (None: the queue's backoff).

        The attempt counts: after the last one, the message becomes a dead letter. Durable on return. The handler's
        changes to ``self.state`` are dropped. Raises ``queue.already_completed`` and ``queue.complete_not_configured``.
        """
        await self._settler.retry(self, number_options.seconds("after", after))

    if not TYPE_CHECKING:  # a type checker finds these by itself

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(no_attribute_of_message(name))

        def __getitem__(self, key: object) -> Any:
            raise TypeError(f"A message is no dict: its content is message.body, as in message.body[{key!r}].")

    def __repr__(self) -> str:
        return f"<Message {self.id} of {self.queue}, attempt {self.attempt}: {self.body!r}>"
