"""Calls to actors that other hosts run. Each is a row, which one host takes and answers at most once.

The answer of an action is written in the same commit as its changes, fenced by the lease. If the session of the host that took
a request ends before it has answered, the request is answered with an error and never carried out again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence

from agentq_nb._brokers.exchange import Request
from agentq_nb._brokers.messages import Answer
from agentq_nb._brokers.postgres.connection import Database, Key, Transaction
from agentq_nb._brokers.postgres.homes import MAY_RUN
from agentq_nb._brokers.postgres.notifications import Notifications
from agentq_nb._brokers.statuses import Home
from agentq_nb._core.error_fields import error_json
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb.errors import LeaseLost, Unavailable

_AT_ONCE = 10
"""Requests that are taken in one transaction: their arguments may be large."""
_KEPT = 600.0
"""Seconds for which an unread answer is kept."""

_ASKED: Key = ("asked",)
_LOST = (
    "The host that ran actor '{actor}' has ended or lost the actor before it answered, so how far the call got is not known. "
    "Its changes to the actor's state were not written. It is not repeated automatically: check what it did, then call again "
    "if needed."
)


# --- the caller's side ------------------------------------------------------------------------------------------------


async def insert(tx: Transaction, asked: Sequence[Request], session: str) -> None:
    """Add those of the requests that are not stored yet."""
    for request in asked:
        await tx.ask(
            """
            insert into agentq.requests (id, actor, name, verb, asked, origin, caller, created_at)
            values (%(id)s, %(actor)s, %(name)s, %(verb)s, %(asked)s, %(origin)s, %(caller)s, agentq.now())
            on conflict do nothing
            """,
            **request._asdict(),
            name=actor_name(request.actor),
            caller=session,
        )
        tx.announce(_ASKED)


async def take_back(tx: Transaction, request: Request) -> str | None:
    """Delete a request that no host has taken, and return the reason as a sentence; None: a host has taken it."""
    deleted = await tx.row(
        "delete from agentq.requests where id = %(id)s and session is null returning id", id=request.id
    )
    if deleted is None:
        return None
    owner = await tx.row("select epoch is not null from agentq.actors where actor = %(actor)s", actor=request.actor)
    why = (
        "The host that runs it did not take the call: its event loop may be blocked. Look there with %agentq status."
        if owner is not None and owner[0]
        else "No host that could run it took the call. Start one that knows its class."
    )
    return f"Actor '{request.actor}' was not called: {why} Nothing was done, so it can be called again."


async def withdraw(tx: Transaction, request: str) -> None:
    """See :meth:`agentq_nb._brokers.exchange.Exchange.withdraw`."""
    await tx.ask("delete from agentq.requests where id = %(id)s and session is null", id=request)
    begun = await tx.row(
        "update agentq.requests set withdrawn = true where id = %(id)s and ended_at is null returning id", id=request
    )
    if begun is not None:
        tx.announce(("withdrawn", request))


async def is_awake(tx: Transaction, actor: ActorId) -> bool:
    """Whether a host that is alive runs the actor."""
    row = await tx.row(
        """
        select exists (
            select from agentq.actors a join agentq.sessions s on s.session = a.session
            where a.actor = %(actor)s and a.epoch is not null and s.until >= agentq.now()
        )
        """,
        actor=actor,
    )
    return row is not None and row[0]


# --- the side of the host that carries them out -----------------------------------------------------------------------

_TAKE = f"""
update agentq.requests r
set session = %(session)s
from (
    select r.id
    from agentq.requests r
    left join agentq.actors a on a.actor = r.actor
    left join agentq.sessions s on s.session = a.session
    where r.ended_at is null and r.name = any(%(names)s) and r.id <> all(%(begun)s::text[])
      and (r.session is null or r.session = %(session)s)
      and (a.actor is null or {MAY_RUN})
      and (a.epoch is null or a.session = %(session)s or s.until is null or s.until < agentq.now())
    order by r.created_at, r.id
    limit %(limit)s
    for update of r skip locked
) free
where r.id = free.id and exists (select from agentq.sessions where session = %(session)s for key share)
returning r.created_at, r.id, r.actor, r.verb, r.asked, r.origin, r.caller
"""


async def requests(
    database: Database,
    notifications: Notifications,
    session: str,
    home: Home,
    names: Callable[[], Collection[str]],
    begun: Collection[str],
) -> AsyncIterator[Request]:
    """See :meth:`agentq_nb._brokers.exchange.Exchange.requests`."""
    with notifications.watch(_ASKED) as watch:
        while not database.closed:
            watch.clear()
            taken = await database.look(lambda tx: _take(tx, session, home, names(), begun))
            for request in taken:
                yield request
            if len(taken) < _AT_ONCE and not database.closed:
                await watch.wait()


async def _take(
    tx: Transaction, session: str, home: Home, names: Collection[str], begun: Collection[str]
) -> Sequence[Request]:
    """Take requests that no host has taken, and those that this host took when the server's answer got lost."""
    rows = await tx.rows(_TAKE, session=session, home=home.id, names=list(names), begun=list(begun), limit=_AT_ONCE)
    # Callers wait longer for requests that were taken.
    tx.announce(*(("answered", row[6]) for row in rows))
    return [Request(*row[1:6]) for row in sorted(rows)]


async def give_back(tx: Transaction, request: str, session: str) -> None:
    """See :meth:`agentq_nb._brokers.exchange.Exchange.give_back`."""
    await tx.ask(
        "update agentq.requests set session = null where id = %(id)s and session = %(session)s and ended_at is null",
        id=request,
        session=session,
    )
    tx.announce(_ASKED)


async def answer(tx: Transaction, answer: Answer) -> bool:
    """Write the answer of a request unless it has one; return whether it had none."""
    row = await tx.row(
        """
        update agentq.requests
        set answer = %(reply)s, error = %(error)s, ended_at = agentq.now(), asked = ''
        where id = %(request)s and ended_at is null
        returning caller
        """,
        **answer._asdict(),
    )
    if row is None:
        return False
    tx.announce(("answered", row[0]))
    return True


async def answer_in_commit(tx: Transaction, given: Answer) -> None:
    """Write the answer of an action with what it changed. Raises LeaseLost if its caller has another answer already."""
    if not await answer(tx, given):
        raise LeaseLost(f"Request {given.request} was answered otherwise: nothing was written.")


def lost(actor: ActorId) -> Unavailable:
    """Return the error of a call whose host has lost the actor before it answered."""
    return Unavailable(_LOST.format(actor=actor))


# --- the end of a session ---------------------------------------------------------------------------------------------


async def end_session(tx: Transaction, session: str) -> None:
    """Answer the requests that a session has taken with an error, and delete its own ones that no host has taken."""
    rows = await tx.rows(
        "select id, actor from agentq.requests where session = %(session)s and ended_at is null for update",
        session=session,
    )
    for request, actor in rows:
        await answer(tx, Answer(request, error=error_json(lost(actor))))
    await tx.ask("delete from agentq.requests where caller = %(session)s and session is null", session=session)


async def look_after(tx: Transaction, session: str) -> Sequence[str]:
    """Delete old unread answers. Return the requests that this session has taken and that were withdrawn."""
    await tx.ask("delete from agentq.requests where ended_at < agentq.now() - %(kept)s", kept=_KEPT)
    rows = await tx.rows(
        "select id from agentq.requests where session = %(session)s and withdrawn and ended_at is null",
        session=session,
    )
    return [request for (request,) in rows]
