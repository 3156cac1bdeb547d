"""Tell a user's interrupt (SIGINT) from a KeyboardInterrupt that code raised itself."""

from __future__ import annotations

import dis
import signal
from types import FrameType, TracebackType
from typing import Any

from agentq_nb.errors import InternalError, PromptFailed

_MARK = "interrupted"
_RAISE = dis.opmap["RAISE_VARARGS"]


def from_outside(error: BaseException | None) -> bool:
    """Whether this is the KeyboardInterrupt of a SIGINT, or the error of an action or prompt interrupted by one.

    Python raises a SIGINT's wherever the code happens to be, so the innermost place is not a ``raise`` statement,
    except in a signal handler written in Python.
    """
    if isinstance(error, (InternalError, PromptFailed)):
        return error.metadata.get(_MARK) is True
    if not isinstance(error, KeyboardInterrupt) or error.__traceback__ is None:
        return False
    innermost = error.__traceback__
    while innermost.tb_next is not None:
        if _handles_signal(innermost.tb_frame):
            return True
        innermost = innermost.tb_next
    return _handles_signal(innermost.tb_frame) or not _raises(innermost)


def marked(error: BaseException) -> dict[str, Any]:
    """Return metadata for the error made of this one: whether it is an interrupt from outside."""
    return {_MARK: True} if from_outside(error) else {}


def _raises(place: TracebackType) -> bool:
    return place.tb_frame.f_code.co_code[place.tb_lasti] == _RAISE


def _handles_signal(frame: FrameType) -> bool:
    """Whether the function was called as Python calls signal handlers: with SIGINT and a frame."""
    code = frame.f_code
    given = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
    return len(given) > 1 and given[-2] == signal.SIGINT and isinstance(given[-1], FrameType)
