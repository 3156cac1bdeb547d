"""What hosts declare of limits, as all hosts see it; and users' changes of limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.limit_register import Declared, as_json, from_json, limits_of
from agentq_nb._brokers.postgres.limit_states import count_as_now, lock_limits
from agentq_nb._core.ids import actor_name
from agentq_nb._policies.limits import Limit
from agentq_nb.errors import LimitConflict


class ClassQueue(NamedTuple):
    """A queue of a class: its class's registered name, and its own."""

    name: str
    queue: str


async def declare(tx: Transaction, session: str, name: str, declared: Declared) -> None:
    """Replace the limits of the queues of a class. Raises LimitConflict if another host declares one differently."""
    named = {limit.name: limit for limits in declared.values() for limit in limits if limit.name is not None}
    await tx.ask(
        "insert into agentq.limits (name) select unnest(%(names)s::text[]) order by 1 on conflict do nothing",
        names=list(named),
    )
    await lock_limits(tx, sorted(named))
    await _check(tx, session, named, name, declared)
    await tx.ask(
        "delete from agentq.declared_limits where session = %(session)s and class = %(name)s",
        session=session,
        name=name,
    )
    for queue, limits in declared.items():
        for number, limit in enumerate(limits):
            await tx.ask(
                """
                insert into agentq.declared_limits (session, class, queue, number, name, declared)
                select %(session)s, %(class)s, %(queue)s, %(number)s, %(name)s, %(declared)s
                where exists (select from agentq.sessions where session = %(session)s for key share)
                """,
                **{"session": session, "class": name, "queue": queue, "number": number},
                name=limit.name,
                declared=as_json(limit),
            )
    for limit_name, limit in named.items():
        await tx.ask(
            "update agentq.limits set agreed = %(agreed)s where name = %(name)s", name=limit_name, agreed=as_json(limit)
        )
    await _end_changes(tx, named, name, declared)
    await count_as_now(tx, list(named))
    tx.announce(*(("limit", limit) for limit in named))


async def _check(tx: Transaction, session: str, named: dict[str, Limit], name: str, declared: Declared) -> None:
    rows = await tx.rows(
        """
        select d.name, d.declared, d.class, d.queue, s.facts
        from agentq.declared_limits d join agentq.sessions s on s.session = d.session
        where d.name = any(%(names)s) and d.session <> %(session)s and s.until >= agentq.now()
        """,
        names=list(named),
        session=session,
    )
    for limit, theirs, class_name, queue, facts in rows:
        if theirs != as_json(named[limit]):
            mine = next(f"{name}.{one}" for one, some in declared.items() if any(each.name == limit for each in some))
            there = f"{class_name}.{queue} of {_host(json.loads(facts))}"
            raise LimitConflict(limit, {mine: str(named[limit]), there: str(from_json(theirs))}, hosts=True)


def _host(facts: dict[str, Any]) -> str:
    """Return what another host is known by."""
    return f"another host ({facts.get('notebook') or facts.get('program') or 'unnamed'})"


async def _end_changes(tx: Transaction, named: dict[str, Limit], name: str, declared: Declared) -> None:
    """End users' changes of limits that are declared differently now."""
    ended: list[str] = []
    for changed, before in await tx.rows("select name, declared from agentq.limits where declared is not null"):
        actor, _, queue = changed.partition(" ")
        queue = queue.partition(" #")[0]
        limit = named.get(changed)
        if limit is None and actor_name(actor) == name and queue in declared:
            own = {one.name: one.declared for one in limits_of(actor, queue, declared[queue])}
            limit = own.get(changed)
        if limit is not None and as_json(limit) != before:
            ended.append(changed)
    if ended:
        await undo_change(tx, ended)


async def declared_by_all(tx: Transaction, session: str) -> dict[ClassQueue, list[Limit]]:
    """Return the limits of the queues of all classes that hosts have; where they differ, those of this session."""
    rows = await tx.rows(
        """
        select distinct on (class, queue, number) class, queue, declared from agentq.declared_limits
        order by class, queue, number, session <> %(session)s, session
        """,
        session=session,
    )
    found: dict[ClassQueue, list[Limit]] = {}
    for name, queue, declared in rows:
        found.setdefault(ClassQueue(name, queue), []).append(from_json(declared))
    return found


async def change(tx: Transaction, name: str, declared: Limit, changed: Limit) -> None:
    """Store a user's change of a limit."""
    await tx.ask(
        """
        insert into agentq.limits (name, declared, count, per) values (%(name)s, %(declared)s, %(count)s, %(per)s)
        on conflict (name) do update
        set declared = excluded.declared, count = excluded.count, per = excluded.per
        """,
        name=name,
        declared=as_json(declared),
        count=changed.count,
        per=getattr(changed, "per", None),
    )
    tx.announce(("limit", name))


async def undo_change(tx: Transaction, names: Sequence[str]) -> None:
    """Let limits be again as they are declared."""
    await tx.ask(
        "update agentq.limits set declared = null, count = null, per = null where name = any(%(names)s)",
        names=list(names),
    )
    tx.announce(*(("limit", name) for name in names))
