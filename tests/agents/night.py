"""A night in fast forward: tasks on a model that refuses at times, and what was seen of them from outside and inside."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.agents.fake_llm import FakeModel, Handler
from tests.kernel.test_dashboard import Page, opened

SECONDS = 5.0
"""How long each of the model's limits lasts."""
MODEL = "claude-sonnet-4-5"


@dataclass
class Refusals:
    """A limit of the model's: from the first request for this task on, for ``SECONDS``."""

    task: int
    status: int
    ends: float = math.inf
    refused: int = 0
    """How many requests it has refused: they were wasted."""

    def begins(self, task: int) -> bool:
        return task == self.task and self.ends == math.inf

    def refuses(self, now: float) -> bool:
        return self.ends != math.inf and now < self.ends


def three_limits_and_a_burst(tasks: int) -> list[Refusals]:
    """429 with a time three times, and 529 without one between them."""
    return [Refusals(tasks * quarter // 5, status) for quarter, status in enumerate((429, 429, 529, 429), start=1)]


def _end_of_limit(now: float) -> float:
    """When a limit ends that begins now: not soon after the start of another minute, the only time a subscriber is told."""
    ends = math.ceil(now + SECONDS)
    minute = 60 * (ends // 60)
    if minute <= now:
        return ends
    return minute if minute - now >= 2 else minute + 60


class NightModel(FakeModel):
    """A model that answers each task, and meets its limits at some of them."""

    def __init__(self, limits: list[Refusals]) -> None:
        super().__init__()
        self.RequestHandlerClass = NightHandler
        self.limits = limits
        self.answered: list[int] = []
        """The tasks, in the order in which they were answered."""

    def refusal(self, task: int | None) -> Refusals | None:
        """The limit that a request meets; ``task`` is None where it is none of a task's, such as for a title."""
        now = time.time()
        for limit in self.limits:
            if task is not None and limit.begins(task):
                limit.ends = _end_of_limit(now)
            if limit.refuses(now):
                limit.refused += 1
                return limit
        if task is not None:
            self.answered.append(task)
        return None

    def headers_of(self, limit: Refusals, subscription: bool) -> dict[str, str]:
        """What comes with a refusal, as Anthropic's servers say it: a subscription's limits have names of their own."""
        if limit.status != 429:
            return {}
        if subscription:
            return {
                "anthropic-ratelimit-unified-status": "rejected",
                "anthropic-ratelimit-unified-reset": str(math.ceil(limit.ends)),
                "anthropic-ratelimit-unified-representative-claim": "five_hour",
                "anthropic-ratelimit-unified-5h-status": "rejected",
                "anthropic-ratelimit-unified-5h-reset": str(math.ceil(limit.ends)),
                "anthropic-ratelimit-unified-overage-status": "rejected",
                "anthropic-ratelimit-unified-overage-disabled-reason": "org_level_disabled",
                "retry-after": str(math.ceil(limit.ends - time.time())),
            }
        return {
            "retry-after": str(math.ceil(limit.ends - time.time())),
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": datetime.fromtimestamp(limit.ends, UTC).isoformat(),
        }


class NightHandler(Handler):
    def _messages(self, body: dict[str, Any]) -> None:
        # A request of the agent's own, such as for a title, offers no tools.
        asked = re.findall(r"@say task (\d+)", json.dumps(body["messages"]))
        is_task = asked and (body.get("tools") or "only_text" in body.get("metadata", {}).get("user_id", ""))
        model = self.server
        assert isinstance(model, NightModel)
        limit = model.refusal(int(asked[-1]) if is_task else None)
        if limit is None:
            super()._messages(body)
            return
        kind, text = (
            ("rate_limit_error", "This request would exceed the rate limit of your organization")
            if limit.status == 429
            else ("overloaded_error", "Overloaded")
        )
        data = json.dumps({"type": "error", "error": {"type": kind, "message": text}}).encode()
        self.send_response(limit.status)
        headers = {"content-type": "application/json", "content-length": str(len(data))}
        for name, value in (headers | model.headers_of(limit, "authorization" in self.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


SEND_ALL = """
import asyncio
night = create_client().night.get_or_create("main")
receipts = [await night.send("tasks", f"@say task {number}") for number in range(TASKS)]
"""

WAIT = """
paused = {}
unfinished = set()

async def watch():
    while True:
        for queue in (await night.status()).queues:
            if queue.paused:
                paused[queue.paused_until] = queue.pause_reason
                result = await receipts[-1].result(timeout=0)
                still = [again.paused_until for again in (await night.status()).queues if again.paused]
                if result.status == "timed_out" and still == [queue.paused_until]:
                    unfinished.add(result.reason)
        await asyncio.sleep(0.1)

watching = asyncio.create_task(watch())
results = [await receipt.result(timeout=LONGEST) for receipt in receipts]
watching.cancel()
"""

PAUSES = """[
    [pause["reason"], pause["seconds"], pause["ended_at"] is not None]
    for pause in (await registry.limits.pauses("night/main tasks")).to_dict("records")
]"""


def spend_the_night(page: Page, model: NightModel, tasks: int, longest: float) -> None:
    """Send the tasks to the actor ``night`` of the kernel, wait for all, and show what the night must show."""
    widget = opened(page)
    page.run(SEND_ALL.replace("TASKS", str(tasks)), timeout=60).check()
    page.run(WAIT.replace("LONGEST", str(longest)), timeout=longest).check()

    # From outside: each task was answered once, in order, and each limit refused few requests.
    assert model.answered == list(range(tasks)), (model.answered, model.limits, len(model.bodies))
    assert [limit.ends != math.inf for limit in model.limits] == [True] * 4
    assert max(limit.refused for limit in model.limits) <= 3, model.limits

    # From inside: all are done, and no attempt was lost.
    expected = [["completed", f"task {number}", 1] for number in range(tasks)]
    told = page.value("[[result.status, result.response, result.attempts] for result in results]")
    assert [[status, reply.strip(), attempts] for status, reply, attempts in told] == expected

    # In the morning, the log and the dashboard say why it waited and for how long, as status() and a wait did meanwhile.
    pauses = page.value(PAUSES)
    assert_reasons([reason for reason, _, _ in pauses])
    # A subscriber is told a time in whole minutes.
    assert all(over and 1 <= seconds <= 60 + 3 * SECONDS for _, seconds, over in pauses), pauses
    page.say(widget, type="watch", have=0)  # nobody looked for hours
    snapshot = page.hear(widget, lambda message: message["type"] == "snapshot")
    shown = snapshot["sections"]["queues"]["night/main tasks"]["pauses"]
    assert_reasons([reason for _, _, reason in shown])
    assert all(ended is not None and began < ended for began, ended, _ in shown), shown
    status_said = page.value("list(paused.values())")
    assert {reason for reason, _, _ in pauses} >= set(status_said), status_said
    assert len(status_said) >= 4
    why = page.value("sorted(unfinished)")
    assert why
    assert all("because a provider's limit is reached" in each for each in why)


def assert_reasons(reasons: list[str]) -> None:
    """One reason for each of the four limits: pauses in a row, as for an overload of unknown length, are one."""
    assert ["overload" if "verload" in reason else "limit" for reason in reasons] == [
        "limit",
        "limit",
        "overload",
        "limit",
    ]
