"""What a failed attempt tells about the other messages of its queue: the kind of its error, and whether it is hopeless."""

from __future__ import annotations

import os
import sysconfig
import traceback

from agentq_nb._actor.message import brief, describe, is_users
from agentq_nb._core.programs import cell_of
from agentq_nb._core.safe_text import safe
from agentq_nb._policies.retry import Failure, FailureKind
from agentq_nb.errors import AgentqError

_LONGEST_ERROR = 150
"""How many characters of an error are in the reason why a queue is stopped."""
_STANDARD_LIBRARY = (*(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib")), "<frozen ")
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_REFUSED_BY_NAME = ("AuthenticationError", "PermissionDeniedError")
_REFUSED_STATUS = (401, 402, 403)
"""HTTP statuses after which every other message would be refused too: no valid key, no money, no permission."""


def failure_of(error: BaseException, stop_after: int, *, without_credit: bool = False) -> Failure:
    """Return what an attempt that ended with this error tells about other messages.

    :param without_credit: whether the provider wants money.
    """
    # Tables cut long texts: the place comes after the error, and must not be what is cut.
    said = safe(brief(describe(error, with_traceback=False)) or type(error).__name__, _LONGEST_ERROR)
    place = _users_place(error)
    return Failure(
        FailureKind(type(error).__qualname__, _place(error)),
        f"{said}{f', at {place}' if place else ''}",
        stop_after,
        hopeless=without_credit or _is_refused(error),
    )


def _is_refused(error: BaseException) -> bool:
    if isinstance(error, AgentqError):
        return error.code == "billing"
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    return status in _REFUSED_STATUS or any(kind.__name__ in _REFUSED_BY_NAME for kind in type(error).__mro__)


def _place(error: BaseException) -> str:
    """Return where the error was raised."""
    frames = _frames(error)
    return _line(*frames[-1]) if frames else ""


def _users_place(error: BaseException) -> str:
    """Return the line to look at: the last one of the user's own code, else of a library that it calls."""
    theirs = [frame for frame in _frames(error) if is_users(frame[0])]
    own = [frame for frame in theirs if not _is_library(frame[0])]
    return _line(*(own or theirs)[-1]) if theirs else ""


def _is_library(filename: str) -> bool:
    return filename.startswith(_STANDARD_LIBRARY) or any(folder in filename for folder in _PACKAGES)


def _frames(error: BaseException) -> list[tuple[str, int]]:
    """Return the file and line of each frame."""
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]


def _line(filename: str, line: int) -> str:
    return f"{cell_of(filename) or filename}, line {line}"
