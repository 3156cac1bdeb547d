"""The language model of a night on a repository, and its own account of what it was asked and what that cost."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

from tests.agents.fake_llm import FakeModel, Handler, Tokens
from tests.agents.night import Refusals

LIMIT = 2
"""Seconds that a limit lasts, and that it tells."""

PRICES = {"*": {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75}}
"""US dollars for a million tokens."""


def cost(taken: Tokens) -> float:
    """What an answer costs in US dollars."""
    price = PRICES["*"]
    whole = (taken.input - taken.cache_read - taken.cache_write) * price["input"] + taken.output * price["output"]
    return (whole + taken.cache_read * price["cache_read"] + taken.cache_write * price["cache_write"]) / 1_000_000


class MeteredNight(FakeModel):
    """A model that answers each task, and meets its limits at some of them.

    Once the first limit is over, it answers nobody from the first request for the task ``hold_at`` or a later one on, until
    :meth:`release`: what was asked meanwhile is never answered, and takes nothing.
    """

    def __init__(self, limits: list[int], hold_at: int) -> None:
        super().__init__()
        self.RequestHandlerClass = _MeteredHandler
        self.varies = True
        self.limits = [Refusals(task, 429) for task in limits]
        self.held: list[int] = []
        """The tasks whose requests are held."""
        self._hold_at: int | None = hold_at
        self._deciding = threading.Lock()
        self._released = threading.Event()

    @property
    def spent(self) -> float:
        """What all its answers cost, in US dollars."""
        return sum(map(cost, list(self.counted)))

    def release(self) -> None:
        """Answer again."""
        self._hold_at = None
        self._released.set()

    def is_held(self, task: int) -> bool:
        """Return False if this request is to be answered; True later, once it need not be."""
        with self._deciding:
            begins = self._hold_at is not None and task >= self._hold_at and self.limits[0].ends < time.time()
            if self._hold_at is None or not (begins or self.held):
                return False
            self.held.append(task)
        self._released.wait(60)
        return True

    def is_refused(self, task: int) -> bool:
        """Whether a limit refuses this request."""
        with self._deciding:
            now = time.time()
            for limit in self.limits:
                if limit.begins(task):
                    limit.ends = now + LIMIT
                if limit.refuses(now):
                    limit.refused += 1
                    return True
        return False


class _MeteredHandler(Handler):
    def _messages(self, body: dict[str, Any]) -> None:
        task = int(re.findall(r"@say task (\d+)", json.dumps(body["messages"]))[-1])
        model = self.server
        assert isinstance(model, MeteredNight)
        if model.is_held(task):
            self.close_connection = True
        elif model.is_refused(task):
            error = {"type": "rate_limit_error", "message": "This would exceed the rate limit of your organization"}
            self._json({"type": "error", "error": error}, 429, str(LIMIT))
        else:
            super()._messages(body)
