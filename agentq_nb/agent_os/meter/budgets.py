"""The budgets of one host, for commands and the dashboard: their state, and changing one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agentq_nb._actor.actor_context import ActorLog
from agentq_nb._client.status import HostStatus
from agentq_nb._core.ids import ActorId
from agentq_nb._core.result_table import Table
from agentq_nb._policies.budget import dollars
from agentq_nb.agent_os.meter.account import CHANGED, SPENT, Account, accounts_of
from agentq_nb.agent_os.meter.llm import LLM


@dataclass(frozen=True)
class BudgetStatus:
    """One budget: amounts as text, since they are only shown."""

    llm: str
    limit: str
    spent: str
    left: str
    is_spent: bool


async def known(
    workspaces: Path, llms: Iterable[LLM], sql: Callable[[str, Sequence[Any]], Awaitable[Table]]
) -> list[Account]:
    """Return the accounts of these language models, of those with a budget."""

    async def fetch(query: str, parameters: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
        return (await sql(query, parameters)).rows

    accounts = list(dict.fromkeys(accounts_of(workspaces, [llm for llm in llms if llm.budget is not None])))
    for account in accounts:
        await account.ready(fetch)
    return accounts


def status_of(account: Account) -> BudgetStatus:
    """Return the state of an account's budget in its present period; of the dearest batch, where each has one."""
    spending = account.spending
    assert spending is not None
    period = (
        spending.dearest()
        if spending.budget.per == "batch"
        else spending.period(datetime.now().astimezone().date(), None)
    )
    spent = spending.spent(period)
    declared = f" (declared {dollars(spending.budget.usd)})" if spending.usd != spending.budget.usd else ""
    per = f" a {spending.budget.per}" if spending.budget.per else ""
    return BudgetStatus(
        account.llm.name,
        f"{dollars(spending.usd)}{per}{declared}",
        f"{dollars(spent)}{f' for batch {period!r}' if spending.budget.per == 'batch' and period else ''}",
        dollars(max(0.0, spending.usd - spent)),
        spent >= spending.usd,
    )


async def change(account: Account, usd: float, records: ActorLog) -> None:
    """Change a budget. Durable on return."""
    assert account.spending is not None
    facts = {"llm": account.llm.name, "declared": str(account.llm.budget), "usd": usd}
    await records.append(CHANGED, facts)
    account.spending.change(usd)


def paused_queues(status: HostStatus) -> Iterator[tuple[ActorId, str]]:
    """Yield the queues that are paused because a budget is spent."""
    for actor in status.actors:
        for queue in actor.queues:
            if queue.pause_reason is not None and SPENT in queue.pause_reason:
                yield actor.actor_id, queue.queue
