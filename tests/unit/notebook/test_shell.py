"""What the extension adds to a shell, without a kernel: the magics, their completion, and shorter tracebacks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.error import UsageError

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.queue import Queue
from agentq_nb._commands.catalog import COMMANDS
from agentq_nb._notebook.cell_await import AWAITED_MAGIC, MAGIC
from agentq_nb._notebook.completion import Completion
from agentq_nb._notebook.magics import Magics
from agentq_nb._notebook.tracebacks import Tracebacks


class Echo(Actor):
    words = Queue(str)

    async def run(self) -> None: ...


class Shell:
    """An IPython shell that runs nothing."""

    def __init__(self) -> None:
        self.magics: dict[str, Any] = {}
        self.magics_manager = self
        self.custom_exceptions: tuple[type[BaseException], ...] = ()
        self.handler: Any = None

    def register_function(self, function: Any, kind: str, name: str) -> None:
        self.magics[name] = function

    def set_custom_exc(self, kinds: tuple[type[BaseException], ...], handler: Any) -> None:
        self.custom_exceptions, self.handler = kinds, handler


class Context:
    """Where commands run: a host with one actor, if it runs."""

    commands = COMMANDS
    in_kernel = works = True
    folder = Path.cwd()

    def __init__(self, *, running: bool = True) -> None:
        self.variables: dict[str, Any] = {}
        self._registry = SimpleNamespace(running=running, classes={"echo": Echo})

    def seeing(self, local: Any) -> Context:
        return self

    async def ready(self) -> None: ...

    def may_block(self, command: object) -> bool:
        return False

    def registry(self) -> Any:
        return self._registry

    def connected(self) -> None:
        return None


def magics() -> dict[str, Any]:
    shell: Any = Shell()
    context: Any = Context()
    Magics(shell, context).install()
    return shell.magics


def completed(line: str, *, running: bool = True) -> list[str]:
    shell: Any = Shell()
    context: Any = Context(running=running)
    return Completion(shell, context).matches(line)


def test_a_line_of_the_magic_is_run_as_the_command_that_it_names() -> None:
    found = asyncio.run(magics()[AWAITED_MAGIC]("help send", local_ns={}))
    assert "%agentq send" in str(found)


@pytest.mark.parametrize("form", [MAGIC, AWAITED_MAGIC])
def test_a_line_that_names_no_command_is_an_error_of_usage_at_once(form: str) -> None:
    with pytest.raises(UsageError, match="Did you mean send"):
        magics()[form]("snd", local_ns={})


def test_the_first_word_is_completed_to_a_command() -> None:
    assert completed("%agentq ") == sorted(COMMANDS)
    assert completed("x = %agentq st") == sorted(name for name in COMMANDS if name.startswith("st"))
    assert completed("%agentq") == []


def test_actors_and_queues_are_completed_where_the_command_takes_them() -> None:
    assert completed("%agentq ask e") == ["echo/main"]
    assert completed("%agentq ask --no-check ") == ["echo/main"]
    assert completed("%agentq ask --timeout 5 ") == ["echo/main"]
    assert completed("%agentq ask --timeout 5 echo/main w") == ["words"]
    assert completed("%agentq ask e", running=False) == []


def test_the_value_of_an_option_is_not_completed() -> None:
    assert completed("%agentq ask --timeout ") == []


def test_tracebacks_are_shortened_while_installed() -> None:
    shell: Any = Shell()
    tracebacks = Tracebacks(shell)
    tracebacks.install()
    assert Exception in shell.custom_exceptions
    assert shell.handler is not None
    tracebacks.remove()
    assert (shell.custom_exceptions, shell.handler) == ((), None)


def test_another_handler_of_errors_stays() -> None:
    shell: Any = Shell()
    shell.set_custom_exc((ValueError,), print)
    tracebacks = Tracebacks(shell)
    tracebacks.install()
    tracebacks.remove()
    assert (shell.custom_exceptions, shell.handler) == ((ValueError,), print)
