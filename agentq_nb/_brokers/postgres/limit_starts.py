"""Starts that count in the windows of rate limits.

A start is its commit: its stored time is no earlier, for the stored time lies a little ahead. A commit that took longer is
moved to a later time before its messages are handed out, if the windows have room for them then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.limit_register import QueueLimit
from agentq_nb._brokers.postgres.limit_states import LimitState, read_states
from agentq_nb._policies.rate_limit import RateLimit

RESERVE = 0.05
"""Seconds that a start may take to be committed. Its stored time is later than now by as much."""
LONG_RESERVE = 0.5
"""The same for one that took longer."""
LEEWAY = 0.01
"""Seconds between handing a message out and the handler's first line."""

Starts = Sequence[tuple[int, Sequence[QueueLimit]]]
"""The tokens of messages or calls, and the limits of each."""


def has_windows(limits: Sequence[QueueLimit]) -> bool:
    """Whether starts under these limits are counted."""
    return any(isinstance(limit.declared, RateLimit) for limit in limits)


async def store_starts(
    tx: Transaction, states: Mapping[str, LimitState], starts: Starts, reserve: float | None = RESERVE
) -> None:
    """Count starts as in ``reserve`` seconds from now; None: they have not happened, and count until that is known."""
    names: list[str] = []
    tokens: list[int] = []
    longest: list[float] = []
    for token, limits in starts:
        windows = [limit for limit in limits if isinstance(limit.declared, RateLimit)]
        for name in {limit.counted_as for limit in windows}:
            names.append(name)
            tokens.append(token)
            longest.append(max(states[limit.name].per or 0.0 for limit in windows))
    if names:
        await tx.ask(_STORE, names=names, tokens=tokens, longest=longest, reserve=reserve)


_STORE = """
insert into agentq.limit_starts (name, at, token, until)
select name, coalesce(agentq.now() + %(reserve)s::float8, 'infinity'), token,
    agentq.now() + coalesce(%(reserve)s::float8, 0) + longest
from unnest(%(names)s::text[], %(tokens)s::bigint[], %(longest)s::float8[]) as s (name, token, longest)
"""


async def move_starts(tx: Transaction, starts: Starts, reserve: float = LONG_RESERVE) -> bool:
    """Count these starts as in ``reserve`` seconds, if their windows have room for them then; else not as starts.

    Their limits are locked.
    """
    tokens = [token for token, _ in starts]
    await tx.ask("delete from agentq.limit_starts where token = any(%(tokens)s)", tokens=tokens)
    states = await read_states(tx, [limit for _, limits in starts for limit in limits])
    row = await tx.row("select agentq.now()")
    wanted: dict[str, int] = {}
    for _, limits in starts:
        for limit in limits:
            if isinstance(limit.declared, RateLimit):
                wanted[limit.name] = wanted.get(limit.name, 0) + 1
    room = all(states[name].room(row[0] if row else 0.0) >= count for name, count in wanted.items())
    await store_starts(tx, states, starts if room else [], reserve)
    return room
