"""Homes of actors that keep files: the one host that may run them, until these files are given up."""

from __future__ import annotations

from collections.abc import Mapping

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.statuses import ActorHome, Home
from agentq_nb._core.ids import ActorId
from agentq_nb.errors import ActorElsewhere

MAY_RUN = "(a.home is null or (a.home = %(home)s) <> a.given_up)"
"""Whether this host may run the actor of a row ``a`` of the table of actors."""


RUNS = """
exists (
    select from agentq.sessions h
    where h.until >= agentq.now() and h.facts::jsonb ->> 'home' = a.home
)
"""
"""Whether the home of a row ``a`` of the table of actors runs."""


def check_home(
    actor: ActorId, home: Home, kept_at: str | None, name: str | None, given_up: bool, running: bool
) -> None:
    """Raise ActorElsewhere if another host has the files of an actor, or this one has given them up."""
    if kept_at is not None and (kept_at == home.id) == given_up:
        raise ActorElsewhere(actor, name or "", running=running, given_up=given_up)


_HOMES = f"""
select a.actor, a.home_name, a.home = %(home)s, {RUNS}, a.given_up
from agentq.actors a
where a.home is not null and (%(actor)s::text is null or a.actor = %(actor)s)
"""


async def homes(tx: Transaction, home: Home, actor: ActorId | None) -> Mapping[ActorId, ActorHome]:
    """Return the homes of actors that have one."""
    return {row[0]: ActorHome(*row[1:]) for row in await tx.rows(_HOMES, home=home.id, actor=actor)}


async def give_up(tx: Transaction, actor: ActorId, *, back: bool) -> bool:
    """Give up the files of an actor, or with ``back`` take that back; return whether this changed anything."""
    changed = await tx.row(
        """
        update agentq.actors set given_up = not %(back)s
        where actor = %(actor)s and home is not null and given_up = %(back)s
        returning 1
        """,
        actor=actor,
        back=back,
    )
    if changed is not None:
        tx.announce(("moved", actor), ("work", actor))
    return changed is not None


async def leaving(tx: Transaction, home: Home, session: str) -> list[ActorId]:
    """Return the actors that run here though their files were given up."""
    rows = await tx.rows(
        "select actor from agentq.actors where session = %(session)s and home = %(home)s and given_up",
        session=session,
        home=home.id,
    )
    return [row[0] for row in rows]
