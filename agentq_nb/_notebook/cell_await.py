"""Wait for ``%agentq`` commands inside a cell.

Where the syntax allows ``await``, the command is awaited. Elsewhere the thread blocks if the host runs in another one;
if not, the event loop runs nested.

IPython cannot await a magic. So a cell's ``%agentq …`` lines, which IPython has turned into calls by the time an input
transformer sees them, become ``(await …)`` of a second magic that returns an awaitable.
"""

from __future__ import annotations

import ast
import asyncio
import signal
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar, cast

from IPython.core.async_helpers import _asyncio_runner  # pyright: ignore[reportPrivateUsage]  # what IPython itself compares with
from IPython.core.error import UsageError

from agentq_nb._core.blocking import block_on
from agentq_nb._core.programs import is_engine
from agentq_nb._core.safe_text import LONGEST_TEXT, safe
from agentq_nb._notebook.ipython_types import Shell, kernel_of

T = TypeVar("T")

MAGIC = "agentq"
AWAITED_MAGIC = "_agentq_awaited"
"""The variant of the magic for rewritten calls, which returns an awaitable."""

_RUNNERS = ("run_line_magic", "run_cell_magic")


class Rewriter:
    """An input transformer that turns calls of the magic into awaited ones.

    It does not change code that runs inside a running cell (``%%time``, ``%%capture``, ``run_cell()``), where the code
    around it is not asynchronous, nor any code when the user switched ``%autoawait`` off.
    """

    # IPython may also call transformers to see whether input is complete: allowed, as this one has no side effects.
    has_side_effects = False

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._running = threading.local()

    def cell_begins(self, *_: object) -> None:
        """Connected to ``pre_run_cell``. Subshells run cells in other threads."""
        self._running.depth = self._depth + 1

    def cell_ends(self, *_: object) -> None:
        """Connected to ``post_run_cell``."""
        self._running.depth = max(0, self._depth - 1)

    def __call__(self, lines: list[str]) -> list[str]:
        source = "".join(lines)
        if not self._may_await or MAGIC not in source:
            return lines
        return rewritten(source).splitlines(keepends=True)

    @property
    def _may_await(self) -> bool:
        """Whether the next code may contain ``await``. An engine of ipyparallel never answers code that awaits."""
        shell = self._shell
        return (
            self._depth == 0
            and shell.autoawait
            and shell.loop_runner is _asyncio_runner
            and not is_engine(kernel_of(shell))
        )

    @property
    def _depth(self) -> int:
        return getattr(self._running, "depth", 0)


def rewritten(source: str) -> str:
    """Return the source of a cell with its calls of the magic awaited; unchanged if it is not valid Python."""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        return source
    lines = source.encode().splitlines(keepends=True)
    # From the last to the first, so that the positions of the others stay valid.
    for statement, call in sorted(_awaitable_calls(statements), key=lambda found: _start(found[1]), reverse=True):
        hides = isinstance(statement, ast.Expr) and _is_silent(call)
        name = cast(ast.Constant, call.args[0])
        assert call.end_lineno is not None
        assert call.end_col_offset is not None
        assert name.end_col_offset is not None
        _replace(lines, call.end_lineno - 1, call.end_col_offset, call.end_col_offset, b");" if hides else b")")
        _replace(lines, name.lineno - 1, name.col_offset, name.end_col_offset, repr(AWAITED_MAGIC).encode())
        _replace(lines, call.lineno - 1, call.col_offset, call.col_offset, b"(await ")
    return b"".join(lines).decode()


def _awaitable_calls(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, ast.Call]]:
    """Yield the statements outside functions and classes that call the magic, or assign such a call, with the call."""
    for statement in body:
        match statement:
            case ast.Expr(value=ast.Call() as call) | ast.Assign(value=ast.Call() as call) if _is_magic(call):
                yield statement, call
            case ast.FunctionDef() | ast.ClassDef():
                pass
            case _:
                for block in _blocks(statement):
                    yield from _awaitable_calls(block)


def _blocks(statement: ast.AST) -> Iterator[list[ast.stmt]]:
    for _, value in ast.iter_fields(statement):
        if not isinstance(value, list) or not value:
            continue
        items = cast("list[Any]", value)
        if isinstance(items[0], ast.stmt):
            yield items
        elif isinstance(items[0], (ast.ExceptHandler, ast.match_case)):
            for item in items:
                yield from _blocks(item)


def _is_magic(call: ast.Call) -> bool:
    match call:
        case ast.Call(
            func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython"), args=[]), attr=runner),
            args=[ast.Constant(value=name), *_],
        ):
            return runner in _RUNNERS and name == MAGIC
        case _:
            return False


def _is_silent(call: ast.Call) -> bool:
    line = call.args[1] if len(call.args) == 2 else None
    return isinstance(line, ast.Constant) and isinstance(line.value, str) and silent(line.value)


def silent(line: str) -> bool:
    """Whether a final semicolon hides the output (``%agentq status;``). In a query it is part of the SQL."""
    return line.rstrip().endswith(";") and line.split()[0] != "sql"


def _start(call: ast.Call) -> tuple[int, int]:
    return call.lineno, call.col_offset


def _replace(lines: list[bytes], line: int, start: int, end: int, text: bytes) -> None:
    lines[line] = lines[line][:start] + text + lines[line][end:]


# --- waiting ----------------------------------------------------------------------------------------------------------


def run_nested(work: Coroutine[Any, Any, T]) -> T:
    """Wait where the syntax does not allow ``await``. Raises UsageError if the loop cannot run nested.

    Background work goes on meanwhile; the cells queued after this one stay queued.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _run_in_idle_thread(work)
    if old_nest_asyncio():
        work.close()
        raise UsageError(OLD_NEST_ASYNCIO)
    # Imported as late as possible: it patches asyncio for the whole process.
    import nest_asyncio2  # pyright: ignore[reportMissingTypeStubs]  # it has no types

    nest_asyncio2.apply(loop)  # pyright: ignore[reportUnknownMemberType]  # it has no types
    with _callbacks_replaced(loop):
        waiting = loop.create_task(work)
        with _Interruptible(loop, waiting), _as_interrupt():
            return loop.run_until_complete(waiting)


@contextmanager
def _callbacks_replaced(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Leave at least as many callbacks ready as there were.

    asyncio counts the callbacks of a turn before it runs them. A turn that began before the loop was patched would look
    for those that ran nested meanwhile, and an IndexError would end the loop and, without a word, the kernel.
    """
    ready: deque[Any] = getattr(loop, "_ready")  # noqa: B009  # private: no public name tells how many are ready
    count = len(ready)
    try:
        yield
    finally:
        for _ in range(count - len(ready)):
            loop.call_soon(int)


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Wait where the syntax does not allow ``await``: block this thread, interruptibly. The host must not need it."""
    with _as_interrupt():
        return block_on(work)


@contextmanager
def _as_interrupt() -> Generator[None]:
    """Turn a CancelledError into a KeyboardInterrupt: synchronous code is interrupted, not cancelled."""
    try:
        yield
    except asyncio.CancelledError as stopped:
        raise on_one_line(KeyboardInterrupt(*stopped.args)) from None


OLD_NEST_ASYNCIO = (
    "nest_asyncio is loaded in this kernel; with ipykernel 7 it loses queued cells while something waits like this. "
    "Put the %agentq line at the top level of a cell, or restart the kernel without nest_asyncio."
)


def old_nest_asyncio() -> bool:
    """Whether the unmaintained nest_asyncio, not nest-asyncio2, patched this process."""
    return hasattr(asyncio, "_nest_patched") and not hasattr(asyncio, "_nest_asyncio2")


def _run_in_idle_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run where no loop runs: in the main thread (a terminal) on IPython's own loop, in other threads on a new one."""
    if threading.current_thread() is threading.main_thread():
        from IPython.core.async_helpers import get_asyncio_loop

        return get_asyncio_loop().run_until_complete(work)
    with asyncio.Runner() as runner:
        return runner.run(work)


class _Interruptible:
    """While entered, an interrupt cancels the waiting task.

    A KeyboardInterrupt would be raised in, and end, whichever background task is running. A second interrupt does raise
    it, because the loop may be blocked, so that the cancellation has no effect.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, waiting: asyncio.Task[Any]) -> None:
        self._loop = loop
        self._waiting = waiting
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupted)

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._waiting.cancelling():
            raise KeyboardInterrupt
        self._loop.call_soon_threadsafe(self._waiting.cancel)


Error = TypeVar("Error", bound=BaseException)


def on_one_line(error: Error) -> Error:
    """Return the error, set to be shown by IPython on one line: its traceback would have frames of our code only."""
    line = " ".join(safe(f"{type(error).__name__}: {error}", LONGEST_TEXT).split())

    def rendered(*_: object) -> list[str]:
        return [line]

    error._render_traceback_ = rendered  # type: ignore[attr-defined]  # IPython calls this
    return error
