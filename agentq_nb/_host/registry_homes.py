"""``registry.move``: give up the files that an actor, such as a VM, keeps on another host."""

from __future__ import annotations

from agentq_nb._brokers.statuses import ActorHome
from agentq_nb._core import ids
from agentq_nb._core.ids import ActorId
from agentq_nb._host.host import Host
from agentq_nb._host.registry_webhooks import WebhookRegistry
from agentq_nb.errors import NoHost, ValidationFailed


class MovingRegistry(WebhookRegistry):
    """The part of a registry that moves actors with files to another host."""

    @property
    def host(self) -> Host:
        """The running host. Raises NoHost."""
        raise NoHost

    async def move(self, actor: str, *, accept_loss: bool = False, back: bool = False) -> str:
        """Give up the files of a VM, so that another host wakes it, with an empty workspace. Returns what happens now.

            print(await registry.move("vm/task-agent", accept_loss=True))

        With queues on PostgreSQL, a VM's workspace and transcripts are on the host that woke it first, its home, and only
        that host wakes it: work for it waits while the host does not run. Nothing is copied by a move. Files, work that was
        not brought back, sessions and transcripts stay where they are, unused. If the VM is awake, it ends within 10
        seconds; what it handles goes back to its queue, uncounted. The move is durable.

        :param actor: the VM, as ``"vm/task-agent"``.
        :param accept_loss: do it; without it ``actor.validation_error`` is raised, which says what would be left behind.
        :param back: take a move back, which is possible until another host has woken the VM.

        Raises ``actor.validation_error`` if the actor keeps no files on any host, and Unavailable.
        """
        host, actor_id = self.host, _actor_id(actor)
        homes = await host.enter(host.broker.homes, actor_id)
        home = homes.get(actor_id)
        if home is None:
            raise ValidationFailed(
                f"'{actor_id}' keeps no files on a host that shares these queues, so there is nothing to give up."
            )
        if back:
            taken = await host.enter(_give_up, host, actor_id, True)
            return f"'{actor_id}' stays on {home.name}." + ("" if taken else " It was not given up there.")
        if home.given_up:
            return _given_up(actor_id, home)
        if not accept_loss:
            raise ValidationFailed(f"{_warning(actor_id, home)} To do that: accept_loss=True.")
        await host.enter(_give_up, host, actor_id, False)
        return _given_up(actor_id, home)

    async def home_of(self, actor: str) -> ActorHome | None:
        """Return the host that has the files of an actor; None if it keeps none. Raises Unavailable."""
        actor_id = _actor_id(actor)
        return (await self.host.enter(self.host.broker.homes, actor_id)).get(actor_id)


def _actor_id(text: str) -> ActorId:
    name, slash, _ = text.partition("/")
    if not name.isidentifier() or not slash:
        raise ValidationFailed(f"An actor is named like vm/task-agent, not {text!r:.100}.")
    return ids.actor_id(name, ids.actor_key(text))


async def _give_up(host: Host, actor: ActorId, back: bool) -> bool:
    return await host.broker.give_up_home(actor, back=back)


def _warning(actor: ActorId, home: ActorHome) -> str:
    runs = "runs" if home.running else "does not run now"
    return (
        f"The files of '{actor}' are on {home.name}, whose host {runs}. A move copies nothing: another host starts it with "
        "an empty workspace, and its files, work that was not brought back, sessions and transcripts stay behind, unused."
    )


def _given_up(actor: ActorId, home: ActorHome) -> str:
    return (
        f"The files of '{actor}' on {home.name} are given up: another host that has its class starts it with an empty "
        "workspace, as soon as there is work for it."
    )
