"""Actors whose state is typed, missing, or gone with them, as those of RivetKit's driver tests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from agentq_nb import Actor, AgentqError, Queue, action


class Destroyed(BaseModel):
    keys: list[str] = Field(default_factory=list[str])


class DestroyObserver(Actor):
    """Knows which actors were destroyed."""

    state: Destroyed = Destroyed()

    @action
    async def notify_destroyed(self, key: str) -> None:
        self.state.keys.append(key)

    @action
    async def was_destroyed(self, key: str) -> bool:
        return key in self.state.keys

    @action
    async def reset(self) -> None:
        self.state.keys = []


class Number(BaseModel):
    value: int = 0


class _Destroyable(Actor):
    async def on_destroy(self) -> None:
        await self.actors.destroy_observer.get_or_create("observer").notify_destroyed("/".join(self.key))


class DestroyActor(_Destroyable):
    """Has a state and a queue, which are gone when it is destroyed."""

    state: Number = Number()
    values = Queue(Any)

    async def on_wake(self) -> None:
        self.ephemeral = "fresh"

    @action
    async def set_value(self, value: int) -> int:
        self.state.value = value
        await self.save_state()
        return value

    @action
    async def get_value(self) -> int:
        return self.state.value

    @action
    async def set_ephemeral(self, value: str) -> str:
        self.ephemeral = value
        return value

    @action
    async def get_ephemeral(self) -> str:
        return self.ephemeral

    @action
    async def receive_value(self) -> Any:
        message = await self.queue.next("values", 0)
        return None if message is None else message.body

    @action(name="destroy")
    async def destroy_(self) -> None:
        self.destroy()


class DestroyAbortSignalActor(_Destroyable):
    """Looks whether it is ending, before and after it asks for its end."""

    @action
    async def request_destroy(self) -> dict[str, Any]:
        before = self.aborted
        self.destroy()
        after = self.aborted
        return {
            "beforeDestroyAborted": before,
            "beforeDestroySignalAborted": before,
            "afterDestroyAborted": after,
            "afterDestroySignalAborted": after,
            "abortEventCountAfterDestroy": 0,
        }


class StatelessActor(Actor):
    """Declares no state."""

    @action
    async def ping(self) -> str:
        return "pong"

    @action
    async def echo(self, message: str) -> str:
        return message

    @action
    async def get_actor_id(self) -> str:
        return self.actor_id

    @action
    async def try_get_state(self) -> dict[str, Any]:
        try:
            return {"success": True, "state": self.state}
        except AgentqError as error:
            return {"success": False, "error": error.message}


class Coerced(BaseModel):
    count: int = 0
    label: str = "default"


class StateZodCoercionActor(Actor):
    """Has a state with a type, which is checked when it is read again."""

    state: Coerced = Coerced()

    @action
    async def set_count(self, count: int) -> None:
        self.state.count = count

    @action
    async def set_label(self, label: str) -> None:
        self.state.label = label

    @action
    async def get_state(self) -> Any:
        return self.state.model_dump()

    @action
    async def trigger_sleep(self) -> None:
        self.sleep()
