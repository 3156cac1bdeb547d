"""Shorten the tracebacks that cells show: only the user's frames, and one line for an interrupted wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from agentq_nb._actor.message import is_ours, is_users
from agentq_nb._notebook.cell_await import on_one_line
from agentq_nb._notebook.ipython_types import Shell

STOPPED = "Stopped waiting; work that has started continues."

_SHOWN = (Exception, asyncio.CancelledError, KeyboardInterrupt)


class Tracebacks:
    """Shows errors as IPython does, but without frames between the cell and the user's own code."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def install(self) -> None:
        """Install the handler of errors, unless there is another one already."""
        if not self._shell.custom_exceptions:
            self._shell.set_custom_exc(_SHOWN, _show)

    def remove(self) -> None:
        """Undo ``install``."""
        if self._shell.custom_exceptions == _SHOWN:
            self._shell.set_custom_exc((), None)


def _show(
    shell: Shell, kind: type[BaseException], error: BaseException, frames: TracebackType, tb_offset: int | None = None
) -> None:
    if any(is_ours(frame.tb_frame.f_code.co_filename) for frame in _frames(frames)):
        if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
            error.args = error.args or (STOPPED,)
            if not hasattr(error, "_render_traceback_"):
                on_one_line(error)
        for one in _chain(error):
            one.__traceback__ = pruned(one.__traceback__)
    shell.showtraceback((kind, error, error.__traceback__), tb_offset=tb_offset, running_compiled_code=True)


def pruned(frames: TracebackType | None) -> TracebackType | None:
    """Return the traceback with the user's frames only; unchanged if it has none."""
    kept = [frame for frame in _frames(frames) if is_users(frame.tb_frame.f_code.co_filename)]
    if not kept:
        return frames
    following: TracebackType | None = None
    for frame in reversed(kept):
        following = TracebackType(following, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return following


def _frames(frames: TracebackType | None) -> Iterator[TracebackType]:
    while frames is not None:
        yield frames
        frames = frames.tb_next


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its causes and its contexts; each once."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [one.__cause__, one.__context__]
