"""Commands about the money that language models cost: what was spent, and budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where, address
from agentq_nb._commands.parser import UsageError, option, span, word
from agentq_nb._display.document import Cell, Document, shows

if TYPE_CHECKING:
    from agentq_nb._core.result_table import Table
    from agentq_nb.agent_os.meter.budgets import BudgetStatus

_GROUPS = {
    "model": "llm, model",
    "day": "strftime(time, '%Y-%m-%d') as day",
    "actor": "coalesce(worker, actor_id) as actor",
    "queue": "worker as actor, queue",
    "batch": "batch",
    "message": "message_id",
    "session": "actor_id as vm, session_id",
}


def _group(text: str) -> str:
    if text not in _GROUPS:
        raise ValueError(f"one of {', '.join(_GROUPS)}")
    return text


def _usd(text: str) -> float:
    try:
        value = float(text.removeprefix("$"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError("an amount in US dollars, like 40 or 2.50")
    return value


@dataclass(frozen=True, kw_only=True)
class Cost(Command):
    """Show what the agents' language models took: requests, tokens, and US dollars, the most expensive first.

    It knows the requests to agent_os(llm=LLM(...)). Input tokens include those that were cached. In a notebook, .frame()
    makes a DataFrame of it; the view usage has each request.
    """

    name: ClassVar[str] = "cost"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    by: str = option("--by", "GROUP", f"{', '.join(_GROUPS)} (default model)", default="model", convert=_group)
    batch: str | None = option("--batch", "NAME", "only what was for this batch")
    actor: str | None = option("--actor", "ACTOR/KEY", "only what was for messages of this actor", convert=address)
    since: float | None = option("--since", "TIME", "only the last 12h, or 7d", convert=span)

    async def run(self, context: CommandContext) -> Table:
        since = None if self.since is None else datetime.now(UTC).timestamp() - self.since
        found = await context.host().file_sql(
            f"select {_GROUPS[self.by]}, count(*) as requests,"
            " count(*) filter (status is null or status >= 400) as failed,"
            " coalesce(sum(input_tokens), 0)::bigint as input_tokens,"
            " coalesce(sum(output_tokens), 0)::bigint as output_tokens,"
            " coalesce(sum(cache_read_tokens), 0)::bigint as cached,"
            " round(sum(cost), 6) as cost, round(avg(seconds), 2) as seconds"
            " from usage where ($batch is null or batch = $batch) and ($actor is null or worker = $actor)"
            " and ($since is null or epoch(time) >= $since::double)"
            " group by all order by cost desc nulls last, requests desc",
            {"batch": self.batch, "actor": self.actor, "since": since},
        )
        return replace(found, empty="No language model was asked through agent_os(llm=LLM(...)).")


@dataclass(frozen=True)
class Budgets:
    """The budgets of the language models that a host uses."""

    budgets: Sequence[BudgetStatus]
    remarks: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class SetBudget(Command):
    """Show the budgets of language models, or change one: budget 40 lets 40 US dollars be spent instead.

    Queues that were paused because the budget was spent continue. The change lasts across restarts, until the budget is
    declared differently.
    """

    name: ClassVar[str] = "budget"
    where: ClassVar[Where] = "both"
    needs_host: ClassVar[bool] = True

    usd: float | None = word("USD", "the new budget in US dollars", optional=True, convert=_usd)
    llm: str | None = option("--llm", "NAME", "the LLM, if several have a budget")

    async def run(self, context: CommandContext) -> Budgets:
        from agentq_nb.agent_os import VM
        from agentq_nb.agent_os.meter import budgets

        registry = context.host()
        models = [llm for cls in registry.classes.values() if issubclass(cls, VM) for llm in cls.language_models()]
        accounts = await budgets.known(registry.host.workspaces, models, registry.file_sql)
        if self.usd is None:
            return Budgets([budgets.status_of(account) for account in accounts])
        named = [account for account in accounts if self.llm in (None, account.llm.name)]
        if len(named) != 1:
            names = ", ".join(account.llm.name for account in accounts)
            raise UsageError(
                f"Name one of the LLMs with a budget: %agentq budget {self.usd:g} --llm NAME. There are: {names}."
                if names
                else "No LLM has a budget here: agent_os(llm=LLM(..., budget=Budget(usd=20)))."
            )
        await registry.host.enter(budgets.change, named[0], self.usd, registry.host.records_of(""))
        client = context.client()
        continued = 0
        for actor, queue in budgets.paused_queues(await registry.status()):
            await client.handle_of(actor).resume(queue)
            continued += 1
        remarks = [f"{continued} queue{'' if continued == 1 else 's'} continued."] if continued else []
        return Budgets([budgets.status_of(named[0])], remarks)


@shows(Budgets)
def _budgets(found: Budgets) -> Document:
    return Document(
        columns=("llm", "budget", "spent", "left", ""),
        rows=[
            (
                budget.llm,
                budget.limit,
                budget.spent,
                budget.left,
                Cell("spent", "bad") if budget.is_spent else "",
            )
            for budget in found.budgets
        ],
        empty="No LLM has a budget here: agent_os(llm=LLM(..., budget=Budget(usd=20))).",
        notes=found.remarks,
    )
