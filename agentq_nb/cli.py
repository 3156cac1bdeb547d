"""The shell command ``agentq``: its commands run in the host that has the file open, else on the file itself."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agentq_nb._commands.agents import Agents
from agentq_nb._commands.catalog import read_arguments
from agentq_nb._commands.command_context import Command
from agentq_nb._commands.connections import Serve
from agentq_nb._commands.demo import Demo
from agentq_nb._commands.doctor import Diagnosis, Doctor
from agentq_nb._commands.file_context import FileContext
from agentq_nb._commands.from_shell import error_text, printed_text
from agentq_nb._commands.help import Help, ShowVersion
from agentq_nb._commands.migrate import Migrate
from agentq_nb._commands.parser import UsageError
from agentq_nb._commands.repositories import ShowDiff
from agentq_nb._commands.run import Run, host_program
from agentq_nb._commands.store import existing_store, host_of_server
from agentq_nb._commands.watch import Watch
from agentq_nb._core.paths import queues_address
from agentq_nb._core.redaction import without_passwords
from agentq_nb._display.repositories import for_terminal
from agentq_nb._gateway.commands import HostGone, ask_host
from agentq_nb._store.running_host import RunningHost, find_host
from agentq_nb.errors import AgentqError

_WITHOUT_STORE = (Help, ShowVersion, Doctor, Agents, Migrate)
"""Commands that open no store, or the one that they name."""

_FAILED, _USAGE_ERROR, _INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and print its result.

    Returns 0, 1 if it failed or doctor found a problem, 2 for wrong usage, 130 if interrupted.
    """
    try:
        store, words = _store(list(sys.argv[1:] if arguments is None else arguments))
        return _carry_out(read_arguments(words), words, store)
    except UsageError as error:
        return _print_error(str(error), _USAGE_ERROR)
    except AgentqError as error:
        return _print_error(str(error), _FAILED)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has closed our output; without this the interpreter would print an error when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED


def _carry_out(command: Command, words: Sequence[str], store: str | None) -> int:
    if isinstance(command, Demo):
        return command.show()
    if isinstance(command, _WITHOUT_STORE):
        return asyncio.run(_run(command, store))
    if isinstance(command, Run):
        return command.show(store)
    if isinstance(command, Serve) and command.program is not None:
        return host_program(command.program, store, command)
    if (queues := queues_address(store, os.environ)) is not None:
        return _on_server(command, words, queues)
    path = existing_store(store)
    if isinstance(command, Watch):
        return command.show(path)
    if (host := find_host(path)) is not None:
        try:
            return _ask(host, command, words)
        except HostGone:  # it has ended meanwhile
            pass
    if command.needs_host:
        raise _no_host(command, f"on {path}")
    return asyncio.run(_run(command, str(path)))


def _on_server(command: Command, words: Sequence[str], queues: str) -> int:
    """Run a command on the queues of a server: in a host of this folder that uses them, if there is one."""
    host = host_of_server(queues)
    if host is not None and isinstance(command, Watch):
        return command.show(host.store)
    if host is not None:
        with suppress(HostGone):  # it has ended meanwhile
            return _ask(host, command, words)
    if command.needs_host or isinstance(command, Watch):
        raise _no_host(command, f"in this folder on {without_passwords(queues)}")
    return asyncio.run(_run(command, queues))


def _no_host(command: Command, where: str) -> AgentqError:
    return AgentqError(
        f"{command.name} needs a host, and none runs {where}. Start one: %agentq start in the notebook, or in a shell "
        "agentq run MODULE_OR_NOTEBOOK",
        group="host",
        code="none",
    )


def _ask(host: RunningHost, command: Command, words: Sequence[str]) -> int:
    """Run a command in the host, and print what it prints."""
    print(f"agentq: asking {host}", file=sys.stderr)
    printed = ask_host(host, words, Path.cwd())
    if printed.error:
        return _print_error(printed.error, printed.status)
    _print(printed.text, command)
    return printed.status


async def _run(command: Command, store: str | None) -> int:
    """Run a command on a file that no other process has open."""
    context = FileContext(store)
    try:
        if not isinstance(command, _WITHOUT_STORE):
            await context.start(None)
        value = await command.run(context)
    finally:
        await context.stop()
    _print(printed_text(command, value))
    return _FAILED if isinstance(value, Diagnosis) and not value.healthy else 0


def _store(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Return the value of ``--store``, at any position, and the other arguments. Raises UsageError."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--store":
            if not equals and index + 1 == len(arguments):
                raise UsageError("--store needs a path: --store PATH")
            after = index + (1 if equals else 2)
            return value if equals else arguments[index + 1], arguments[:index] + arguments[after:]
    return None, arguments


def _print(text: str, command: Command | None = None) -> None:
    if isinstance(command, ShowDiff):
        text = for_terminal(text)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def _print_error(text: str, code: int) -> int:
    print(f"agentq: {error_text(text)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
