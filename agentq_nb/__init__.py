"""Durable actor queues for agents, hosted in the notebook's own kernel."""

from __future__ import annotations

import sys
from typing import Any

if sys.platform == "win32":
    raise ImportError(
        "agentq_nb does not support Windows: its promises about files and processes cannot be kept there. "
        "Use it in WSL, in a container, or on Linux or macOS."
    )

from agentq_nb._actor.actor import Actor, action
from agentq_nb._actor.message import Message
from agentq_nb._actor.queue import Queue, Retry
from agentq_nb._client.receipt import Receipt, Result
from agentq_nb._host.registry import Registry, create_client, current_registry, setup
from agentq_nb.agent_os import agent_os, agents
from agentq_nb.errors import AgentqError, UserError, WaitWouldDeadlock

__all__ = [
    "Actor",
    "AgentqError",
    "Message",
    "Queue",
    "Receipt",
    "Registry",
    "Result",
    "Retry",
    "UserError",
    "WaitWouldDeadlock",
    "action",
    "agent_os",
    "agents",
    "create_client",
    "current_registry",
    "dashboard",
    "setup",
]


def dashboard() -> Any:
    """A live view of this kernel's host: an ``anywidget``, to be made in a cell. See ``agentq_nb._notebook.dashboard``.

    Raises ``NoHost``.
    """
    from agentq_nb._notebook.dashboard import dashboard

    return dashboard()


def load_ipython_extension(ip: Any) -> None:
    """``%load_ext agentq_nb``: prints nothing and starts nothing."""
    from agentq_nb._notebook.extension import load

    load(ip)


def unload_ipython_extension(ip: Any) -> None:
    """``%unload_ext agentq_nb``: takes back what loading added. A host that runs goes on until ``%agentq stop``."""
    from agentq_nb._notebook.extension import unload

    unload(ip)
