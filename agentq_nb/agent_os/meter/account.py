"""The account of one language model in one host: its budget, its pace, and what was spent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from agentq_nb._policies.budget import Spending, dollars
from agentq_nb._policies.notices import BUDGET_SPENT
from agentq_nb._policies.rate_limit import RequestPace
from agentq_nb.agent_os.meter.llm import LLM
from agentq_nb.agent_os.meter.usage import Usage, cost_of

Fetch: TypeAlias = Callable[[str, Sequence[Any]], Awaitable[Sequence[tuple[Any, ...]]]]

REQUEST = "llm.request"
"""The kind of the rows of requests."""
CHANGED = "budget.changed"
"""The kind of the rows of budgets that a user changed."""

SPENT = "The budget of LLM"
"""The beginning of the reason for which queues pause when a budget is spent."""

_LOOKING = 0.2  # seconds between looks at a budget that is spent
_LONGEST_WAIT = 240.0  # seconds; agents' clients give up after five minutes without an answer

_SPENT = f"""
select
    coalesce(data->>'$.batch', ''),
    sum((data->>'$.cost')::double),
    coalesce(sum((data->>'$.cost')::double) filter (time >= ?), 0)
from events where kind = '{REQUEST}' and data->>'$.llm' = ? group by 1
"""
_ANNOUNCED = f"select data->>'$.period' from events where kind = '{BUDGET_SPENT}' and data->>'$.budget' = ?"
_CHANGE = f"select data->>'$.usd' from events where kind = '{CHANGED}' and data->>'$.llm' = ? and data->>'$.declared' = ? order by seq desc limit 1"


class BudgetSpentNow(Exception):
    """A request is refused: the budget is spent, and was not raised in time."""

    def __init__(self, reason: str, resumes_at: float | None, period: str) -> None:
        """``period``: the batch or day whose budget is spent, and the budget, which may have been raised."""
        super().__init__(reason)
        self.resumes_at = resumes_at
        self.period = period


class TooManyRequests(Exception):
    """A request is refused: the language model's own limits would let it wait too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The limits of LLM(...) let this request start in {seconds:.0f} s.")
        self.seconds = seconds


class Account:
    """The account of one language model. Requests come in the network's thread, changes of the budget in any."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.spending: Spending | None = None
        """None without a budget, and until :meth:`ready` was awaited."""
        self._pace = RequestPace(llm.requests_per_minute, llm.tokens_per_minute)
        self.charged: float | None = None
        """US dollars since the kernel began; None before the first request."""
        self.announced: set[str] = set()
        """The periods whose spent budget is already recorded in the log."""
        self._without_price: set[str] = set()

    def declare(self, llm: LLM) -> None:
        """Use another declaration of the same name from now on."""
        if (llm.requests_per_minute, llm.tokens_per_minute) != (
            self.llm.requests_per_minute,
            self.llm.tokens_per_minute,
        ):
            self._pace = RequestPace(llm.requests_per_minute, llm.tokens_per_minute)
        if llm.budget != self.llm.budget:
            self.spending = None
        self.llm = llm

    async def ready(self, fetch: Fetch) -> None:
        """Read from the log what was spent, unless that is known."""
        budget = self.llm.budget
        if budget is None or self.spending is not None:
            return
        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        since = midnight.astimezone(UTC).replace(tzinfo=None)
        rows = await fetch(_SPENT, [since, self.llm.name])
        changes = await fetch(_CHANGE, [self.llm.name, str(budget)])
        self.announced.update(period for (period,) in await fetch(_ANNOUNCED, [self.llm.name]))
        if budget.per == "batch":
            spent = {batch: usd or 0.0 for batch, usd, _ in rows}
        elif budget.per == "day":
            spent = {midnight.date().isoformat(): sum(today for _, _, today in rows)}
        else:
            spent = {"": sum(usd or 0.0 for _, usd, _ in rows)}
        if self.spending is None and budget == self.llm.budget:
            self.spending = Spending(budget, spent, float(changes[0][0]) if changes else None)

    async def admit(self, batch: str | None) -> None:
        """Return when a request may start. Raises BudgetSpentNow and TooManyRequests."""
        began = time.monotonic()
        while True:
            now = time.monotonic()
            if self._is_held(batch, now - began):
                await asyncio.sleep(_LOOKING)
                continue
            wait = self._pace.wait(now)
            if wait <= 0:
                self._pace.start(now)
                return
            if now - began + wait > _LONGEST_WAIT:
                raise TooManyRequests(wait)
            await asyncio.sleep(wait)

    def refusal(self, batch: str | None) -> BudgetSpentNow | None:
        """Return the refusal of a prompt that would only be cancelled, since requests have waited in vain already."""
        try:
            self._is_held(batch, 0.0)
        except BudgetSpentNow as refusal:
            return refusal
        return None

    def charge(self, model: str, usage: Usage, batch: str | None) -> float | None:
        """Count a request; return its cost in US dollars, if the model has a known price."""
        self._pace.answered(time.monotonic(), usage.input + usage.output)
        cost = cost_of(self.llm, model, usage)
        self.charged = (self.charged or 0.0) + (cost or 0.0)
        if cost is None:
            self._say_without_price(model)
        elif self.spending is not None:
            self.spending.add(self._period(self.spending, batch), cost)
        return cost

    def _is_held(self, batch: str | None, waited: float) -> bool:
        spending = self.spending
        if spending is None:
            return False
        period = self._period(spending, batch)
        verdict = spending.judge(period, waited)
        if verdict == "refuse":
            ends = spending.ends_at(datetime.now().astimezone())
            resumes_at = None if ends is None else ends.timestamp()
            raise BudgetSpentNow(
                self._reason(spending, period), resumes_at, f"{period} {dollars(spending.usd)}".strip()
            )
        return verdict == "hold"

    def _reason(self, spending: Spending, period: str) -> str:
        per = spending.budget.per
        which = f" of batch '{period}'" if per == "batch" and period else " of this day" if per == "day" else ""
        return (
            f"{SPENT} '{self.llm.name}'{which} is spent: {dollars(spending.spent(period))} of "
            f"{dollars(spending.usd)}. To raise it: %agentq budget {_raised(spending.usd)}"
        )

    def _period(self, spending: Spending, batch: str | None) -> str:
        return spending.period(datetime.now().astimezone().date(), batch)

    def _say_without_price(self, model: str) -> None:
        if model in self._without_price:
            return
        self._without_price.add(model)
        counted = "" if self.spending is None else ", so its budget does not count them"
        logging.getLogger("agentq").warning(
            "Model %r of LLM '%s' has no known price: its requests are counted in tokens only%s. Give it one: "
            'LLM(..., prices={"%s": {"input": 3, "output": 15}}), in US dollars for a million tokens.',
            *(model, self.llm.name, counted, model),
        )


def _raised(usd: float) -> str:
    return f"{2 * usd:g}"


_accounts: dict[tuple[Path, str], Account] = {}


def charged_since_start(workspaces: Path) -> float | None:
    """Return what the requests of one host have cost since the kernel began, in US dollars; None if there were none."""
    charged = [account.charged for (folder, _), account in list(_accounts.items()) if folder == workspaces]
    known = [usd for usd in charged if usd is not None]
    return sum(known) if known else None


def accounts_of(workspaces: Path, llms: Iterable[LLM]) -> list[Account]:
    """Return the accounts of these language models in one host. Those of one name are one; the latest declaration counts."""
    found: list[Account] = []
    for llm in llms:
        account = _accounts.setdefault((workspaces, llm.name), Account(llm))
        if account.llm is not llm:
            account.declare(llm)
        found.append(account)
    return found
