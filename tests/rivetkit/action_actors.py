"""Actors whose actions return, fail, take their time and are large, as those of RivetKit's driver tests."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pydantic import BaseModel, Field

from agentq_nb import Actor, UserError, action


def milliseconds() -> int:
    return int(time.time() * 1000)


class Count(BaseModel):
    count: int = 0


class Woken(Count):
    events: list[str] = Field(default_factory=list[str])


class Counter(Actor):
    """Counts, and broadcasts each new count."""

    state: Count = Count()

    @action
    async def increment(self, by: int) -> int:
        return await self.set_count(self.state.count + by)

    @action
    async def set_count(self, count: int) -> int:
        self.state.count = count
        self.broadcast("newCount", count)
        return count

    @action
    async def get_count(self) -> int:
        return self.state.count

    @action
    async def get_key(self) -> list[str]:
        return list(self.key)


class CounterWithLifecycle(Actor):
    """Counts, and records that it was woken."""

    state: Woken = Woken()

    @action
    async def increment(self, by: int) -> int:
        self.state.count += by
        return self.state.count

    async def on_wake(self) -> None:
        self.state.events.append("onWake")

    @action
    async def get_events(self) -> list[str]:
        return self.state.events


class ErrorHandlingActor(Actor, action_timeout=0.5):
    """Fails in every way an action can fail."""

    @action
    async def throw_simple_error(self) -> None:
        raise UserError("Simple error message")

    @action
    async def throw_detailed_error(self) -> None:
        metadata = {"reason": "test", "timestamp": milliseconds()}
        raise UserError("Detailed error message", code="detailed_error", metadata=metadata)

    @action
    async def throw_internal_error(self) -> None:
        raise RuntimeError("This is an internal error")

    @action
    async def successful_action(self) -> str:
        return "success"

    @action
    async def timeout_action(self) -> str:
        await asyncio.sleep(10)
        return "This should not be reached if timeout works"

    @action
    async def delayed_action(self, delay: int) -> str:
        await asyncio.sleep(delay / 1000)
        return f"Completed after {delay}ms"


class CustomTimeoutActor(Actor, action_timeout=0.2):
    """Has one action that keeps to the limit, and one that does not."""

    @action
    async def quick_action(self) -> str:
        await asyncio.sleep(0.05)
        return "Quick action completed"

    @action
    async def slow_action(self) -> str:
        await asyncio.sleep(0.3)
        return "Slow action completed"


class ShortTimeoutActor(Actor, action_timeout=0.05):
    """Has little time."""

    @action
    async def quick_action(self) -> str:
        return "quick response"

    @action
    async def slow_action(self) -> str:
        await asyncio.sleep(0.1)
        return "slow response"


class LongTimeoutActor(Actor, action_timeout=0.5):
    """Has time enough."""

    @action
    async def delayed_action(self) -> str:
        await asyncio.sleep(0.1)
        return "delayed response"


class DefaultTimeoutActor(Actor):
    """Has the limit that all have."""

    @action
    async def normal_action(self) -> str:
        await asyncio.sleep(0.05)
        return "normal response"


class SyncTimeoutActor(Actor, action_timeout=0.05):
    """Has an action that is a plain function."""

    @action
    def sync_action(self) -> str:
        return "sync response"


class Value(BaseModel):
    value: int = 0
    data: Any = None


class SyncActionActor(Actor):
    """Has actions that are plain functions."""

    state: Value = Value()

    @action
    def increment(self, amount: int = 1) -> int:
        self.state.value += amount
        return self.state.value

    @action
    def get_info(self) -> dict[str, int]:
        return {"currentValue": self.state.value, "timestamp": milliseconds()}

    @action
    def reset(self) -> None:
        self.state.value = 0


class AsyncActionActor(Actor):
    """Has actions that await something."""

    state: Value = Value()

    @action
    async def delayed_increment(self, amount: int = 1) -> int:
        await asyncio.sleep(0)
        self.state.value += amount
        return self.state.value

    @action
    async def fetch_data(self, id: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.state.data = {"id": id, "timestamp": milliseconds()}
        return self.state.data

    @action
    async def async_with_error(self, fails: bool) -> str:
        await asyncio.sleep(0)
        if fails:
            raise UserError("Intentional error")
        return "Success"


class Events(BaseModel):
    events: list[str] = Field(default_factory=list[str])


class ConcurrentActionActor(Actor):
    """Records the order in which its actions start and finish."""

    state: Events = Events()

    @action
    async def run_with_delay(self, label: str, delay: int) -> str:
        self.state.events.append(f"start:{label}")
        await asyncio.sleep(delay / 1000)
        self.state.events.append(f"finish:{label}")
        return label

    @action
    async def get_events(self) -> list[str]:
        return self.state.events


class Sum(BaseModel):
    total: int = 0


class NestedActionActor(Actor):
    """Has actions whose names have a dot, as nested ones of JavaScript."""

    state: Sum = Sum()

    @action(name="calculator.add")
    async def add(self, amount: int) -> int:
        self.state.total += amount
        return self.state.total

    @action(name="calculator.read")
    async def read(self) -> int:
        return self.state.total


class Results(BaseModel):
    results: list[str] = Field(default_factory=list[str])


class PromiseActor(Actor):
    """Returns what it has waited for, or fails after that."""

    state: Results = Results()

    @action
    async def resolved_promise(self) -> str:
        return "resolved value"

    @action
    async def delayed_promise(self) -> str:
        await asyncio.sleep(0)
        self.state.results.append("delayed")
        return "delayed value"

    @action
    async def rejected_promise(self) -> None:
        raise UserError("promised rejection")

    @action
    async def get_results(self) -> list[str]:
        return self.state.results


class LargePayloadActor(Actor):
    """Takes and returns much."""

    @action
    async def process_large_request(self, data: dict[str, list[str]]) -> dict[str, Any]:
        items = data["items"]
        return {"itemCount": len(items), "firstItem": items[0], "lastItem": items[-1]}

    @action
    async def get_large_response(self, count: int) -> dict[str, list[str]]:
        return {"items": [f"Item {number} with some additional text to increase size" for number in range(count)]}


class LargestRequest(BaseModel):
    size: int = 0


class LargePayloadConnActor(LargePayloadActor):
    """The same, for connections."""

    state: LargestRequest = LargestRequest()

    @action
    async def process_large_request(self, data: dict[str, list[str]]) -> dict[str, Any]:
        self.state.size = len(data["items"])
        return await super().process_large_request(data)

    @action
    async def get_last_request_size(self) -> int:
        return self.state.size


class Inputs(BaseModel):
    given: Any = None
    called: bool = False


class InputActor(Actor):
    """Keeps the input that it was created with."""

    state: Inputs = Inputs()

    async def on_create(self, input: Any) -> None:
        self.state = Inputs(given=input, called=True)

    @action
    async def get_inputs(self) -> dict[str, Any]:
        # None is "undefined" to JavaScript where a field is missing.
        given = (
            {} if self.state.given is None else {"initialInput": self.state.given, "onCreateInput": self.state.given}
        )
        return given if self.state.called else {"initialInput": "on_create was not called"}
