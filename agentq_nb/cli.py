"""The shell command ``agentq``: its commands run in the host that has the file open, else on the file itself."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agentq_nb._commands.agents import Agents
from agentq_nb._commands.catalog import read_arguments
from agentq_nb._commands.chosen_store import existing_store
from agentq_nb._commands.command_context import Command
from agentq_nb._commands.demo import Demo
from agentq_nb._commands.doctor import Diagnosis, Doctor
from agentq_nb._commands.file_context import FileContext
from agentq_nb._commands.help import Help
from agentq_nb._commands.host_connection import HostGone, ask_host
from agentq_nb._commands.hosting import host_program
from agentq_nb._commands.parser import UsageError
from agentq_nb._commands.run import Run
from agentq_nb._commands.serve import Serve
from agentq_nb._commands.shell_text import error_text, printed_text
from agentq_nb._commands.watch import Watch
from agentq_nb._store.running_host import RunningHost, find_host
from agentq_nb.errors import AgentqError

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
    if isinstance(command, (Help, Doctor, Agents)):
        return asyncio.run(_run(command, store))
    if isinstance(command, Run):
        return command.show(store)
    if isinstance(command, Serve) and command.program is not None:
        return host_program(command.program, store, command)
    path = existing_store(store)
    if isinstance(command, Watch):
        return command.show(path)
    if (host := find_host(path)) is not None:
        try:
            return _ask(host, words)
        except HostGone:  # it has ended meanwhile
            pass
    if command.needs_host:
        raise AgentqError(
            f"{command.name} needs a host, and none runs on {path}. Start one: %agentq start in the notebook, or in a shell "
            "agentq run MODULE_OR_NOTEBOOK",
            group="host",
            code="none",
        )
    return asyncio.run(_run(command, str(path)))


def _ask(host: RunningHost, words: Sequence[str]) -> int:
    """Run a command in the host, and print what it prints."""
    print(f"agentq: asking {host}", file=sys.stderr)
    printed = ask_host(host, words, Path.cwd())
    if printed.error:
        return _print_error(printed.error, printed.status)
    _print(printed.text)
    return printed.status


async def _run(command: Command, store: str | None) -> int:
    """Run a command on a file that no other process has open."""
    context = FileContext(store)
    try:
        if not isinstance(command, (Help, Doctor, Agents)):
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


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def _print_error(text: str, code: int) -> int:
    print(f"agentq: {error_text(text)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
