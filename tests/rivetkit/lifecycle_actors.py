"""Actors that run, sleep and are woken, as those of RivetKit's driver tests."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, Field

from agentq_nb import Actor, Queue, action
from agentq_nb._gateway.target import Target
from tests.rivetkit.action_actors import milliseconds

SLEEP_TIMEOUT = 1.0
"""Seconds after which these actors sleep, as in RivetKit's tests."""


# --- schedules --------------------------------------------------------------------------------------------------------


class History(BaseModel):
    last_run: int = 0
    count: int = 0
    tasks: list[str] = Field(default_factory=list[str])


class Scheduled(Actor):
    """Schedules calls of its own actions. Times are in milliseconds, as clients give them."""

    state: History = History()

    @action
    async def schedule_task_at(self, timestamp: int) -> int:
        await self.schedule.at(timestamp / 1000, "on_scheduled_task")
        return timestamp

    @action
    async def schedule_task_after(self, delay: int) -> int:
        await self.schedule.after(delay / 1000, "on_scheduled_task")
        return milliseconds() + delay

    @action
    async def schedule_task_after_with_id(self, task: str, delay: int) -> Any:
        await self.schedule.after(delay / 1000, "on_scheduled_task_with_id", task)
        return {"taskId": task, "scheduledFor": milliseconds() + delay}

    @action
    async def get_last_run(self) -> int:
        return self.state.last_run

    @action
    async def get_scheduled_count(self) -> int:
        return self.state.count

    @action
    async def get_task_history(self) -> list[str]:
        return self.state.tasks

    @action
    async def clear_history(self) -> bool:
        self.state = History()
        return True

    @action
    async def on_scheduled_task(self) -> None:
        self.state.last_run = milliseconds()
        self.state.count += 1
        self.broadcast("scheduled", {"time": self.state.last_run, "count": self.state.count})

    @action
    async def on_scheduled_task_with_id(self, task: str) -> None:
        self.state.tasks.append(task)
        await self.on_scheduled_task()


# --- run --------------------------------------------------------------------------------------------------------------


class Ticks(BaseModel):
    tickCount: int = 0  # noqa: N815  # as clients read it
    lastTickAt: int = 0  # noqa: N815  # as clients read it
    runStarted: bool = False  # noqa: N815  # as clients read it
    runExited: bool = False  # noqa: N815  # as clients read it


class RunWithTicks(Actor, sleep_timeout=SLEEP_TIMEOUT):
    """Ticks for as long as it is awake."""

    state: Ticks = Ticks()

    async def run(self) -> None:
        self.state.runStarted = True
        while not self.aborted:
            self.state.tickCount += 1
            self.state.lastTickAt = milliseconds()
            await asyncio.sleep(0.05)
        self.state.runExited = True

    @action
    async def get_state(self) -> Any:
        return self.state.model_dump()


class Life(BaseModel):
    runStarted: bool = False  # noqa: N815  # as clients read it
    destroyCalled: bool = False  # noqa: N815  # as clients read it
    sleepCount: int = 0  # noqa: N815  # as clients read it
    wakeCount: int = 0  # noqa: N815  # as clients read it
    runCount: int = 0  # noqa: N815  # as clients read it
    marker: str = "new"
    messagesReceived: list[Any] = Field(default_factory=list[Any])  # noqa: N815  # as clients read it


class _Counted(Actor):
    """Counts how often it wakes and sleeps."""

    state: Life = Life()

    async def on_wake(self) -> None:
        self.state.wakeCount += 1

    async def on_sleep(self) -> None:
        self.state.sleepCount += 1

    async def on_destroy(self) -> None:
        self.state.destroyCalled = True

    @action
    async def get_state(self) -> Any:
        return self.state.model_dump()


class RunWithoutHandler(_Counted, sleep_timeout=SLEEP_TIMEOUT):
    """Has no loop."""


class RunWithQueueConsumer(_Counted, sleep_timeout=SLEEP_TIMEOUT):
    """Takes messages in its loop."""

    messages = Queue(Any)

    async def run(self) -> None:
        self.state.runStarted = True
        await self.save_state()
        async for message in self.queue.iter("messages"):
            self.state.messagesReceived.append({"name": message.queue, "body": message.body})

    @action
    async def send_message(self, body: Any) -> bool:
        await self.queue.push("messages", body)
        return True


class RunWithEarlyExit(_Counted, sleep_timeout=SLEEP_TIMEOUT):
    """Has a loop that ends at once."""

    async def run(self) -> None:
        self.state.runStarted = True
        await self.save_state()
        await asyncio.sleep(0.2)

    async def on_sleep(self) -> None:
        await super().on_sleep()
        observer = self.actors.lifecycle_observer.get_or_create("run-with-early-exit")
        await observer.record_event({"actorKey": Target("runWithEarlyExit", self.key, "id").wire_id, "event": "sleep"})


class RunWithError(_Counted, sleep_timeout=SLEEP_TIMEOUT):
    """Has a loop that fails."""

    async def run(self) -> None:
        self.state.runStarted = True
        await self.save_state()
        await asyncio.sleep(0.2)
        raise RuntimeError("intentional error in run handler")


class RunSelfInitiatedSleep(_Counted, sleep_timeout=SLEEP_TIMEOUT):
    """Goes to sleep in its loop, once."""

    async def run(self) -> None:
        self.state.runCount += 1
        await self.save_state()
        if self.state.runCount == 1:
            self.sleep()

    async def on_sleep(self) -> None:
        await super().on_sleep()
        self.state.marker = "slept"


class Recorded(BaseModel):
    events: list[Any] = Field(default_factory=list[Any])


class LifecycleObserver(Actor):
    """Records what other actors tell it."""

    state: Recorded = Recorded()

    @action
    async def record_event(self, event: dict[str, str]) -> None:
        self.state.events.append(event)

    @action
    async def get_events(self) -> list[Any]:
        return self.state.events

    @action
    async def clear_events(self) -> None:
        self.state.events = []


# --- sleep ------------------------------------------------------------------------------------------------------------


class Sleep(_Counted, sleep_timeout=SLEEP_TIMEOUT):
    """Sleeps when it is idle, or told to."""

    @action
    async def trigger_sleep(self) -> None:
        self.sleep()

    @action
    async def get_counts(self) -> dict[str, int]:
        return {"startCount": self.state.wakeCount, "sleepCount": self.state.sleepCount}

    @action
    async def set_alarm(self, delay: int) -> None:
        await self.schedule.after(delay / 1000, "on_alarm")

    @action
    async def on_alarm(self) -> None: ...
