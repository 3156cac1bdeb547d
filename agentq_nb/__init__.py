"""Durable actor queues for agents, hosted in the notebook's own kernel.

    %load_ext agentq_nb
    from agentq_nb import Actor, Queue, create_client

    class TaskRunner(Actor):
        tasks = Queue(str)

        async def run(self):
            async for message in self.queue.iter():         # one message at a time
                print(message.body)

    %agentq start
    runner = create_client().task_runner.get_or_create("main")
    receipt = await runner.send("tasks", "Review PR #123")  # durable when this returns

Messages, results, actors' state and transcripts are stored in a DuckDB file beside the notebook, and survive restarts and
crashes. A handler may see a message more than once, so handlers with side effects must be idempotent. Times are in seconds.
Every error derives from ``AgentqError``; ``agentq_nb.errors`` lists them.

In a notebook ``%agentq help`` lists all commands. In a script: ``async with setup(use={"task_runner": TaskRunner}): ...``.
"""

from __future__ import annotations

import sys
from typing import Any

if sys.platform == "win32":
    raise ImportError(
        "agentq_nb does not support Windows: its promises about files and processes cannot be kept there. "
        "Use it in WSL, in a container, or on Linux or macOS."
    )

from agentq_nb._actor.actor import Actor, action, cron
from agentq_nb._actor.message import Message
from agentq_nb._actor.queue import Queue
from agentq_nb._batches.map import map  # noqa: A004  # users write agentq_nb.map
from agentq_nb._batches.sync_batch import SyncBatch, map_sync
from agentq_nb._client.batch import Batch
from agentq_nb._client.receipt import Receipt, Result, as_completed, gather
from agentq_nb._gateway import install as _install_gateway
from agentq_nb._host.registry import Registry, current_registry
from agentq_nb._host.setup import create_client, setup
from agentq_nb._policies.budget import Budget
from agentq_nb._policies.limits import ConcurrencyLimit
from agentq_nb._policies.rate_limit import RateLimit
from agentq_nb._policies.retry import Retry
from agentq_nb.agent_os import LLM, Folder, Repository, agent_os, agents
from agentq_nb.errors import AgentqError, RateLimited, UserError, WaitWouldDeadlock

__all__ = [
    "LLM",
    "Actor",
    "AgentqError",
    "Batch",
    "Budget",
    "ConcurrencyLimit",
    "Folder",
    "Message",
    "Queue",
    "RateLimit",
    "RateLimited",
    "Receipt",
    "Registry",
    "Repository",
    "Result",
    "Retry",
    "SyncBatch",
    "UserError",
    "WaitWouldDeadlock",
    "action",
    "agent_os",
    "agents",
    "as_completed",
    "create_client",
    "cron",
    "current_registry",
    "dashboard",
    "gather",
    "map",
    "map_sync",
    "setup",
]

__version__ = "0.1.0"


async def _run_command(registry: Any, arguments: Any, folder: Any, in_notebook: Any) -> Any:
    from agentq_nb._commands.from_shell import run  # what is imported here is not needed until someone asks

    return await run(registry, arguments, folder, in_notebook)


_install_gateway(_run_command)


def dashboard() -> Any:
    """Return a live view of this kernel's host: an ``anywidget``. It must be called in a cell.

    Raises ``NoHost``.
    """
    from agentq_nb._notebook.dashboard import dashboard

    return dashboard()


def load_ipython_extension(ip: Any) -> None:
    """Load the extension: ``%load_ext agentq_nb``. It prints nothing and starts nothing."""
    from agentq_nb._notebook.extension import load

    load(ip)


def unload_ipython_extension(ip: Any) -> None:
    """Undo what loading did: ``%unload_ext agentq_nb``. A running host keeps running until ``%agentq stop``."""
    from agentq_nb._notebook.extension import unload

    unload(ip)


# Users read these names in help(), errors and pickles: the folders that hold them are private, and may change.
for _public in (
    LLM,
    Actor,
    Batch,
    Budget,
    ConcurrencyLimit,
    Folder,
    Message,
    Queue,
    RateLimit,
    Receipt,
    Registry,
    Repository,
    Result,
    Retry,
    SyncBatch,
    action,
    as_completed,
    create_client,
    cron,
    current_registry,
    gather,
    map,
    map_sync,
    setup,
):
    _public.__module__ = __name__
del _public
