"""Threads for users' plain handlers, apart from those for the package's own work.

A thread cannot be stopped. As each dispatched message has a place in its queue until its thread has ended, there are
never more threads than the queues' ``concurrency`` declares. They are daemons: one that hangs keeps no process alive.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from agentq_nb._core.threads import user_threads
from agentq_nb._runtime.invocation import Call, waiting_task


async def in_user_thread(call: Call, function: Callable[[], Any]) -> Any:
    """Call a handler in a thread. When the call is stopped, the thread goes on: ``call.thread`` tells when it ends.

    What it calls of the actor counts as called by the present task.
    """
    here = waiting_task.set(asyncio.current_task())
    try:
        call.thread = user_threads.submit(function)
        result = await asyncio.wrap_future(call.thread)
    finally:
        waiting_task.reset(here)
    return await result if inspect.isawaitable(result) else result
