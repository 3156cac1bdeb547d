"""A Python function as an agent."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

import anyio.from_thread
import anyio.to_thread

from agentq_nb.agent_os.agent import AgentEvent, AgentSession, Emit
from agentq_nb.agent_os.values import AgentCheck


def function(f: Callable[[AgentSession, str], Any], name: str | None = None) -> FunctionAgent:
    """Return an agent that calls the function ``f(session, prompt)``, under ``name`` (default: the function's own).

    An async generator yields events (``str`` for text, or dicts with a ``type``); a coroutine function or a plain
    function returns the text. A plain function runs in a worker thread and, since a thread cannot be stopped, should
    check ``session.cancelled`` now and then. A coroutine that computes for long without awaiting blocks all actors, and
    neither a cancel nor the Stop button reaches it before it awaits: write a plain function for that. All of them run
    inside the kernel, without isolation.

    A kept session continues after sleep and restart: the function is simply called again, with ``session.history``.
    """
    if inspect.isgeneratorfunction(f):
        raise TypeError("A function agent that yields must be asynchronous: write `async def` before its name.")
    if not callable(f):
        raise TypeError(f"agents.function takes a function f(session, prompt), not {f!r:.200}.")
    _check_parameters(f)
    return FunctionAgent(f, name or getattr(f, "__name__", type(f).__name__))


class FunctionAgent:
    """An agent that calls a Python function, made by :func:`function`."""

    def __init__(self, f: Callable[[AgentSession, str], Any], name: str) -> None:
        self._function = f
        self.name = name
        # A callable object has its `async` on the method.
        candidates = (f, type(f).__call__)
        self._in_thread = not any(
            inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called) for called in candidates
        )

    def __repr__(self) -> str:
        return f"agents.function({getattr(self._function, '__qualname__', self._function)}, name={self.name!r})"

    def check(self) -> AgentCheck:
        return AgentCheck(self.name)

    async def prompt(self, session: AgentSession, text: str, emit: Emit) -> None:
        try:
            if self._in_thread:
                given = await anyio.to_thread.run_sync(
                    self._function,
                    _in_thread(session),
                    text,
                    abandon_on_cancel=True,
                    limiter=anyio.CapacityLimiter(1),
                )
            else:
                given = self._function(session, text)
            if inspect.isasyncgen(given):
                async with aclosing(given):
                    await _tell(given, emit)
            elif isinstance(given, AsyncIterator):
                await _tell(cast(AsyncIterator[Any], given), emit)
            else:
                await _finish(await given if inspect.isawaitable(given) else given, emit)
        except BaseException:
            session.stopped.set()
            raise


def _check_parameters(f: Callable[..., Any]) -> None:
    """Raise ``TypeError`` for a function that cannot be called with a session and a prompt."""
    try:
        signature = inspect.signature(f)
    except ValueError:  # some functions written in C have no signature
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        name = getattr(f, "__name__", type(f).__name__)
        raise TypeError(
            f"agents.function calls its function with a session and a prompt, which {name}{signature} does not take "
            f"({error}). Write `async def {name}(session, prompt): ...`."
        ) from None


def _in_thread(session: AgentSession) -> AgentSession:
    """Return the session for a plain function: its tools are called without ``await``, and still run in the loop."""
    return dataclasses.replace(session, tools={name: _blocking(tool) for name, tool in session.tools.items()})


def _blocking(tool: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(tool)
    def call(*args: Any, **kwargs: Any) -> Any:
        return anyio.from_thread.run(functools.partial(tool, *args, **kwargs))

    return call


async def _tell(events: AsyncIterator[Any], emit: Emit) -> None:
    async for event in events:
        await emit(AgentEvent.of(event))


async def _finish(text: object, emit: Emit) -> None:
    if text is None:
        return
    if not isinstance(text, str):
        raise TypeError(f"A function agent returns its text as str (or None), not {text!r:.200}")
    await emit(AgentEvent("text", text))
