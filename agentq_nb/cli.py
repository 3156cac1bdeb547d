"""The shell command ``agentq``: the commands that work outside a kernel, on a file that no other process has open."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agentq_nb._commands.agents import Agents
from agentq_nb._commands.catalog import offered, read_arguments
from agentq_nb._commands.command_context import Command
from agentq_nb._commands.demo import Demo
from agentq_nb._commands.doctor import Diagnosis, Doctor
from agentq_nb._commands.help import Help, as_typed_here
from agentq_nb._commands.messages import Retry
from agentq_nb._commands.parser import UsageError
from agentq_nb._commands.queues import Purge
from agentq_nb._commands.vms import Vms
from agentq_nb._core.paths import DEFAULT_NAME, SUFFIX, VARIABLE
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb.errors import AgentqError, NoHost, StoreError, StoreNotBegun

if TYPE_CHECKING:
    from agentq_nb._host.keep_alive import KeepAliveMode
    from agentq_nb._host.registry import Registry

_FAILED, _USAGE_ERROR, _INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and print its result.

    Returns 0, 1 if it failed or doctor found a problem, 2 for wrong usage, 130 if interrupted.
    """
    try:
        store, words = _store(list(sys.argv[1:] if arguments is None else arguments))
        command = read_arguments(words)
        if isinstance(command, Demo):
            return command.show()
        return asyncio.run(_run(command, store))
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


class FileContext:
    """The context of one shell command: it opens the file, and registers no actor class, so that no work starts."""

    in_kernel = False
    works = False
    variables: Mapping[str, Any] = MappingProxyType({})

    @property
    def commands(self) -> Mapping[str, type[Command]]:
        """The commands of a shell."""
        return offered("shell")

    def __init__(self, store: str | None) -> None:
        self._store = store
        self.folder = Path.cwd()
        self._registry: Registry | None = None

    def registry(self) -> Registry | None:
        """Return the registry that has the file open, if it was started."""
        return self._registry

    def host(self) -> Registry:
        """Return the registry that has the file open. Raises NoHost before ``start``."""
        if self._registry is None:
            raise NoHost
        return self._registry

    def store(self) -> Path:
        """Return the file to use. Raises StoreError if there is none, or more than one."""
        return existing_store(self._store)

    def alert(self, on: bool) -> None:
        """Raises NoHost: a shell has no cells."""
        raise NoHost

    def dashboard(self) -> object:
        """Raises NoHost: nothing runs on a file that was opened for one command."""
        raise NoHost

    async def start(
        self,
        store: str | None,
        accept_loss: bool = False,
        background: bool = False,
        new: bool = False,
        keep_alive: KeepAliveMode | None = None,
    ) -> Registry:
        """Open the file; no work starts. Raises StoreError if there is none, and the errors of ``Registry.start``."""
        from agentq_nb._host.setup import setup

        registry = setup(store=existing_store(store) if store else self.store())
        await registry.start(accept_loss=accept_loss, new=new)
        self._registry = registry
        return registry

    async def stop(self) -> None:
        """Close the file."""
        if self._registry is not None:
            await self._registry.stop()


def existing_store(asked: str | None, folder: Path | None = None) -> Path:
    """Return the file asked for, else that of the environment variable, else the only one in the folder.

    Raises StoreNotBegun if it does not exist yet, and StoreError for a wrong path or several files.
    """
    folder = folder or Path.cwd()
    named = asked or os.environ.get(VARIABLE)
    if named:
        path = Path(os.path.expanduser(named)).absolute()
        if path.is_file():
            return path
        if asked:
            raise StoreError(f"There is no file {path}. Check the path that --store gives.", code="missing")
        raise StoreNotBegun(f"There is no {path} yet, which {VARIABLE} names. %agentq start makes it.")
    found = sorted({*folder.glob(f"*{SUFFIX}"), *folder.glob(DEFAULT_NAME)})
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise StoreError(f"There are several files here: {names}. Say which one: --store PATH", code="missing")
    raise StoreNotBegun(
        f"There is no *{SUFFIX} in {folder} yet. %agentq start in a notebook makes one beside it. "
        f"For one that is elsewhere: --store PATH"
    )


async def _run(command: Command, store: str | None) -> int:
    context = FileContext(store)
    try:
        if not isinstance(command, (Help, Doctor, Agents)):
            await context.start(None)
        value = await command.run(context)
    finally:
        await context.stop()
    document = document_of(value)
    text = as_text(document) if document is not None else str(value)
    # What others print may quote what users wrote, which stays as it is.
    _print(as_typed_here(text, offered("shell")) if isinstance(command, (Help, Doctor, Retry, Purge, Vms)) else text)
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
    print(f"agentq: {as_typed_here(' '.join(text.split()), offered('shell'))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
