"""``agentq run``: host the actors of a module or a notebook without Jupyter, until a signal asks to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.actor_classes import load_program
from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import word
from agentq_nb._core.blocking import block_on
from agentq_nb._core.threads import in_long_thread

if TYPE_CHECKING:
    from agentq_nb._commands.connections import Serve
    from agentq_nb._host.registry import Registry

_LOOK_EVERY = 0.5
_FAILED = 1


@dataclass(frozen=True, kw_only=True)
class Run(Command):
    """Host the actors of a module or a notebook, without Jupyter, until Ctrl-C or SIGTERM.

    A module is a file like workers.py, or a name like mypackage.workers. It is imported: its actor classes are hosted,
    or those that it gives to setup(...). A notebook's cells are run from first to last, with the file of its queues
    beside it; then its actor classes are hosted. The host has a thread of its own.

    It stops cleanly: messages in flight get 10 s to finish, then go back into their queues uncounted. From another shell
    agentq status, send, watch and the like work on it. A systemd unit for it is on the page docs/gateway.md.
    """

    name: ClassVar[str] = "run"
    where: ClassVar[Where] = "shell"

    program: str = word("MODULE|NOTEBOOK", "like workers.py, mypackage.workers or analysis.ipynb")

    async def run(self, context: CommandContext) -> int:
        return await in_long_thread(self.show, None)

    def show(self, store: str | None) -> int:
        """Host it until a signal comes. Returns the exit status. Call it in the main thread."""
        return host_program(self.program, store)


def host_program(program: str, store: str | None, serve: Serve | None = None) -> int:
    """Load a program, host it until SIGTERM or Ctrl-C, and stop it cleanly. Returns the exit status.

    :param serve: opens an HTTP server as well.

    Raises UsageError, and the errors of loading, starting and serving. Call it in the main thread.
    """
    stop, hosting = threading.Event(), threading.Event()
    with _signals(stop, hosting):
        registry = load_program(program, store)
        block_on(registry.start())
        hosting.set()
        try:
            _say(f"hosting {', '.join(sorted(registry.classes))} in {registry.store_path} (process {os.getpid()})")
            for notice in registry.notices:
                _say(notice)
            if serve is not None:
                server = block_on(registry.serve(serve.port, serve.host, origins=serve.origins))
                _say(f"serving {server.url}, its token in {server.token_file}")
            _say("Ctrl-C or SIGTERM stops it: messages in flight get 10 s to finish.")
            while registry.running and not stop.wait(_LOOK_EVERY):
                pass
            ended_by_itself = not stop.is_set()
            if ended_by_itself:
                _say(block_on(registry.status()).trouble or "the host has ended by itself")
        finally:
            _stop(registry)
    return _FAILED if ended_by_itself else 0


def _stop(registry: Registry) -> None:
    _say("stopping")
    block_on(registry.stop())
    _say("stopped")


@contextmanager
def _signals(stop: threading.Event, hosting: threading.Event) -> Generator[None]:
    """Set ``stop`` at SIGTERM and Ctrl-C while ``hosting`` is set; before that, and the second time, interrupt."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() or not hosting.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(f"agentq: {text}", file=sys.stderr, flush=True)
