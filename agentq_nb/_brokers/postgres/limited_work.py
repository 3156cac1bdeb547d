"""What holds places of concurrency limits besides running messages: calls such as prompts, and threads that outlive an attempt.

Their places are free again when their session ends, as those of messages in flight are.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._core.ids import MessageId


def thread_of(message: MessageId) -> str:
    """Return the name of the work of a thread that outlives its attempt."""
    return f"{message} thread"


async def note_thread(tx: Transaction, message: MessageId, session: str) -> None:
    """Keep the places of a message for its thread."""
    await tx.ask(
        """
        insert into agentq.limited_work (work, session, token, limits)
        select %(work)s, %(session)s, m.token, m.limits from agentq.messages m
        where m.id = %(message)s and m.limits is not null
          and exists (select from agentq.sessions where session = %(session)s for key share)
        on conflict do nothing
        """,
        work=thread_of(message),
        message=message,
        session=session,
    )


async def begin_work(tx: Transaction, work: str, session: str, places: Sequence[str]) -> int | None:
    """Give a call its places; return the token of its start. None: the session has been ended."""
    row = await tx.row(
        """
        insert into agentq.limited_work (work, session, token, limits)
        select %(work)s, %(session)s, nextval('agentq.starts'), %(limits)s
        where exists (select from agentq.sessions where session = %(session)s for key share)
        returning token
        """,
        work=work,
        session=session,
        limits=list(places),
    )
    return None if row is None else row[0]


async def end_work(tx: Transaction, work: str) -> None:
    """Give the places back. A start that has not happened does not count."""
    row = await tx.row("delete from agentq.limited_work where work = %(work)s returning token, limits", work=work)
    if row is None:
        return
    token, limits = row
    unused = await tx.rows(
        "delete from agentq.limit_starts where token = %(token)s and at = 'infinity' returning name", token=token
    )
    tx.announce(*(("limit", name) for name in {*limits, *(name for (name,) in unused)}))


async def end_works(tx: Transaction, session: str) -> None:
    """End all work of a session. A call that may have begun counts as begun."""
    works = await tx.rows(
        "delete from agentq.limited_work where session = %(session)s returning token, limits", session=session
    )
    if not works:
        return
    begun = await tx.rows(
        """
        update agentq.limit_starts set at = agentq.now()
        where token = any(%(tokens)s) and at = 'infinity'
        returning name
        """,
        tokens=[token for token, _ in works],
    )
    tx.announce(
        *(("limit", name) for name in {*(name for _, limits in works for name in limits), *(n for (n,) in begun)})
    )
