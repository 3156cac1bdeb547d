"""The actor class that works on one ``map``: it calls the function for each row, and stops what fails again and again."""

from __future__ import annotations

import hashlib
import os
import re
import sysconfig
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.message import Message, brief, describe, is_users
from agentq_nb._actor.queue import Queue
from agentq_nb._core.ids import MessageId
from agentq_nb._core.programs import cell_of
from agentq_nb._core.safe_text import safe
from agentq_nb._policies.retry import FailureKind, FailureRun, Retry
from agentq_nb._runtime.invocation import current_receiver
from agentq_nb._runtime.user_threads import in_user_thread
from agentq_nb.agent_os.provider_limits import limit_of
from agentq_nb.errors import AgentqError, RateLimited

QUEUE = "rows"
_LONGEST_ERROR = 150
"""How many characters of an error are in the reason why a batch was stopped."""
_UNLIMITED = 2**62
"""A map has no ``max_size``."""
_LARGEST_ITEM = 64 << 20
_WORK = "__agentq_map__"
"""The attribute of a worker's class that has its work."""
_STANDARD_LIBRARY = (*(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib")), "<frozen ")
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_REFUSED_BY_NAME = ("AuthenticationError", "PermissionDeniedError")
_REFUSED_STATUS = (401, 402, 403)
"""HTTP statuses after which every other row would be refused too: no valid key, no money, no permission."""


@dataclass(frozen=True)
class Work:
    """What a map does.

    :ivar call: the function, called with the actor and an item; ``is_async``: awaited, else in a thread.
    :ivar body: the type of the items.
    :ivar stop: stops the batch for a reason; durable on return.
    """

    actor_name: str
    call: Callable[[Actor, Any], Any]
    is_async: bool
    body: Any
    reply: Any
    concurrency: int
    retry: Retry
    timeout: float | None
    limits: Sequence[Any]
    failures: FailureRun
    stop: Callable[[str], Awaitable[None]]
    digest: str


def actor_name_of(name: str) -> str:
    """Return the name under which the actor of a map is registered: readable, and different for different maps."""
    plain = re.sub(r"\W", "_", name)
    if plain != name:
        plain = f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:4]}"
    return f"map_{plain}"


def worker_class(work: Work, concurrency: int, *, first: Callable[[], Awaitable[None]] | None = None) -> type[Actor]:
    """Return the actor class, with so many rows at a time.

    :param first: called when the first row has succeeded, before it is settled. It replaces the class by one that works on
        more rows at a time: then no second row has been started by this one.
    """
    limits: dict[str, Any] = {"limits": list(work.limits)} if work.limits else {}
    declared: Any = Queue(
        work.body,
        reply=work.reply,
        max_size=_UNLIMITED,
        max_bytes=None,
        max_message_bytes=_LARGEST_ITEM,
        retry=work.retry,
        handler_timeout=work.timeout,
        concurrency=concurrency,
        **limits,
    )

    class MapWorker(Actor):
        rows = declared

        @declared.handler
        async def work(self, item: Any, message: Message[Any, Any]) -> Any:
            try:
                reply = await _called(work, self, item)
                declared.reply.validate(reply, f"The reply of {work.actor_name}")
            except Exception as error:
                if (reason := _reason_to_stop(work.failures, message.id, error)) is not None:
                    await work.stop(reason)
                raise
            work.failures.succeeded()
            if first is not None:
                await first()
            return reply

    setattr(MapWorker, _WORK, work)
    MapWorker.__name__ = MapWorker.__qualname__ = work.actor_name
    return MapWorker


def is_same_work(deployed: type[Actor] | None, wanted: type[Actor]) -> bool:
    """Whether a class that is deployed does what another would do, with the same code and options."""
    now: Work | None = getattr(deployed, _WORK, None)
    new: Work = getattr(wanted, _WORK)
    if now is None or now.failures.stopped or now.failures.stop_after != new.failures.stop_after:
        return False
    return _options(now) == _options(new)


def _options(work: Work) -> tuple[Any, ...]:
    return work.digest, work.body, work.reply, work.concurrency, work.retry, work.timeout, list(work.limits)


async def _called(work: Work, actor: Actor, item: Any) -> Any:
    if work.is_async:
        return await work.call(actor, item)
    receiver = current_receiver.get()
    assert receiver is not None
    return await in_user_thread(receiver.call, partial(work.call, actor, item))


def _reason_to_stop(failures: FailureRun, message: MessageId, error: Exception) -> str | None:
    """Count a failed attempt. Returns why the batch is to be stopped, if it is."""
    limit = limit_of(error)
    if isinstance(error, RateLimited) or (limit is not None and limit.pauses):
        return None
    if limit is not None or _is_refused(error):
        what = "a row was refused, as every other one would be" if failures.hopeless() else None
    elif failures.failed(message, FailureKind(type(error).__qualname__, _place_of(error))):
        what = f"{failures.stop_after} rows in a row failed with the same error"
    else:
        what = None
    if what is None:
        return None
    # Tables cut long texts: the place comes after the error, and must not be what is cut.
    said = safe(brief(describe(error, with_traceback=False)) or type(error).__name__, _LONGEST_ERROR)
    place = _users_place(error)
    return (
        f"{what}: {said}{f', at {place}' if place else ''}. Correct it and call map again with the same name: the rows that "
        "wait are done then. To go on as it is: await batch.resume()"
    )


def _is_refused(error: Exception) -> bool:
    if isinstance(error, AgentqError) and error.code == "billing":
        return True
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    return status in _REFUSED_STATUS or any(kind.__name__ in _REFUSED_BY_NAME for kind in type(error).__mro__)


def _place_of(error: Exception) -> str:
    """Return where the error was raised."""
    frames = _frames(error)
    return _line(*frames[-1]) if frames else ""


def _users_place(error: Exception) -> str:
    """Return the line to look at: the last one of the user's own code, else of a library that the function is from."""
    theirs = [frame for frame in _frames(error) if is_users(frame[0])]
    own = [frame for frame in theirs if not _is_library(frame[0])]
    return _line(*(own or theirs)[-1]) if theirs else ""


def _is_library(filename: str) -> bool:
    return filename.startswith(_STANDARD_LIBRARY) or any(folder in filename for folder in _PACKAGES)


def _frames(error: Exception) -> list[tuple[str, int]]:
    """Return the file and line of each frame."""
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]


def _line(filename: str, line: int) -> str:
    return f"{cell_of(filename) or filename}, line {line}"
