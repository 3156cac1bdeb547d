"""Commands about the host: start it, stop it, and show what it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import UsageError, flag, option, word
from agentq_nb._core.threads import in_long_thread
from agentq_nb._display.document import Document, safe
from agentq_nb._host.keep_alive import KeepAliveMode, keep_alive_mode
from agentq_nb._host.notice_channels import channels_of
from agentq_nb.errors import ValidationFailed

if TYPE_CHECKING:
    from agentq_nb._client.status import HostStatus
    from agentq_nb._core.result_table import Table
    from agentq_nb._host.host import Host
    from agentq_nb._host.registry import Registry


_LONGEST_TITLE = 300


def _keep_alive(text: str) -> KeepAliveMode:
    try:
        return keep_alive_mode(text)
    except ValidationFailed:
        raise ValueError("never, work or always") from None


@dataclass(frozen=True, kw_only=True)
class Start(Command):
    """Start the host in this kernel; when it runs already, deploy what is new into it.

    Actor classes of the notebook are registered under their snake_case name, those made by agent_os(...) under the
    name of their variable. Work that waits in the file is resumed at once.

    With --background the host gets an event loop in a thread of its own, so that actors keep working while a cell blocks, be
    it for ten minutes. Their code may then use the notebook's variables as any thread may, but nothing that is bound to
    the kernel's event loop, like tasks, locks and clients made in a cell. Sending, waiting and all else stay as they
    are.

    A server may end kernels that are idle. This one counts as busy while queues have work: --keep-alive=work, as at
    first. See the page docs/overnight.md.

    The file has the notebook's name. After the notebook was renamed, --adopt gives its old file, named in the message
    you then get, the new name.
    """

    name: ClassVar[str] = "start"
    where: ClassVar[Where] = "kernel"

    store: str | None = option(
        "--store", "PATH", "the file, or postgresql://..., that holds the queues (default: a file beside the notebook)"
    )

    background: bool = flag("--background", "in a thread of its own, so that actors keep working while cells block")
    keep_alive: Literal["never", "work", "always"] | None = option(
        "--keep-alive",
        "WHEN",
        "when this kernel counts as busy for a server that ends idle ones: never, work or always",
        convert=_keep_alive,
    )
    notify: str | None = option("--notify", "URL", "send notifications there, as notify does")
    adopt: str | None = option("--adopt", "FILE", "the notebook was renamed: continue its old file under the new name")
    new: bool = flag("--new", "create a new file, although a file of a notebook that is gone is in this folder")

    async def run(self, context: CommandContext) -> Registry:
        if self.adopt is not None:
            await self._take_over(context, self.adopt)
        channels = None if self.notify is None else await in_long_thread(channels_of, self.notify)
        registry = await context.start(self.store, background=self.background, new=self.new, keep_alive=self.keep_alive)
        if channels is not None:
            registry.lifecycle.notify_settings.channels = channels
        return registry

    async def _take_over(self, context: CommandContext, file: str) -> None:
        from agentq_nb._store.renamed_notebook import adopt

        registry = context.registry()
        if self.store is not None:
            raise UsageError(
                "--adopt gives a file this notebook's name, --store uses it under its own. Take one of them."
            )
        if registry is not None and registry.running:
            raise UsageError(f"The host of this kernel runs on {registry.store_path}. Stop it first: %agentq stop")
        store = context.store()
        await in_long_thread(adopt, store.parent / os.path.expanduser(file), store)


@dataclass(frozen=True, kw_only=True)
class Stop(Command):
    """Stop the host: messages in flight get 10 s to finish, then go back into their queues uncounted."""

    name: ClassVar[str] = "stop"
    where: ClassVar[Where] = "kernel"

    async def run(self, context: CommandContext) -> Registry:
        registry = context.host()
        await registry.stop()
        return registry


@dataclass(frozen=True, kw_only=True)
class Status(Command):
    """Show the host, its actors and their queues.

    Done counts every message of the queue that completed or failed, those of earlier runs of the kernel too; "of"
    adds what is still to come. Failed are the dead letters. Per min is over the last five minutes.
    """

    name: ClassVar[str] = "status"
    where: ClassVar[Where] = "both"

    async def run(self, context: CommandContext) -> HostStatus | Table | Document:
        registry = context.registry()
        if not context.works:
            # A file that is only opened to look at it runs nothing.
            found = await context.host().sql("select * from queues order by actor_id, queue")
            return replace(found, empty="No queue has been used yet: the file has no messages.")
        if registry is None:
            return Document(notes=["No host runs in this kernel. Start one: %agentq start"])
        status = await registry.status()
        if not status.running:
            return status
        return replace(status, notices=[*await registry.host.enter(_pending_requests, registry.host), *status.notices])


async def _pending_requests(host: Host) -> list[str]:
    """Return the agents' requests that wait for an answer. Runs in the host's loop."""
    from agentq_nb.agent_os.sessions.sessions import remembered

    return [
        f"{safe(request.agent)} in {safe(actor)} asks: {safe(request.title.strip(), _LONGEST_TITLE)}. "
        f"It waits until you allow or refuse it in %agentq dashboard."
        for actor, sessions in remembered(host.workspaces)
        for request in sessions.permission_requests()
    ]


@dataclass(frozen=True, kw_only=True)
class Hosts(Command):
    """Show the hosts that use the same queues: where each runs, its lease, and the actors that are awake in it.

    Queues in a file have one host. Those on PostgreSQL may have many; one that is not heard of until the end of its lease
    has lost its actors to the others. In a notebook, .frame() makes a DataFrame of it.
    """

    name: ClassVar[str] = "hosts"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    async def run(self, context: CommandContext) -> Table:
        table = await context.host().hosts_table()
        if not context.works:  # a shell that only looks is no host
            table = replace(table, rows=[row for row in table.rows if not row[table.columns.index("here")]])
        return replace(table, empty="No host uses these queues.")


def _on_or_off(text: str) -> str:
    if text not in ("on", "off"):
        raise ValueError("on or off")
    return text


@dataclass(frozen=True, kw_only=True)
class Alerts(Command):
    """Switch the line after a cell that names what failed since the last one on or off."""

    name: ClassVar[str] = "alerts"
    where: ClassVar[Where] = "kernel"

    switch: str = word("on|off", "whether it is printed", convert=_on_or_off)

    async def run(self, context: CommandContext) -> None:
        context.alert(self.switch == "on")


@dataclass(frozen=True, kw_only=True)
class Actors(Command):
    """Show the actor classes that are registered, with their queues and actions."""

    name: ClassVar[str] = "actors"
    where: ClassVar[Where] = "both"
    needs_host: ClassVar[bool] = True

    async def run(self, context: CommandContext) -> Document:
        classes = context.host().classes
        return Document(
            title="Actor classes",
            columns=("name", "class", "queues", "actions"),
            rows=[
                (name, actor.__qualname__, ", ".join(actor.declared.queues), ", ".join(actor.declared.actions))
                for name, actor in sorted(classes.items())
            ],
            empty="No actor class is registered yet. Define one in a cell, or pass it to setup(use=...).",
        )


@dataclass(frozen=True, kw_only=True)
class Dashboard(Command):
    """Show the host live: queues, sessions with their transcripts, messages, and buttons to act on them.

    It needs a front end with widgets, such as JupyterLab. When the host stops, a picture of the last state stays.
    """

    name: ClassVar[str] = "dashboard"
    where: ClassVar[Where] = "kernel"
    makes_widgets: ClassVar[bool] = True

    async def run(self, context: CommandContext) -> object:
        return context.dashboard()
