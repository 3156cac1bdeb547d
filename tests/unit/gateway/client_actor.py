"""What clients of every language are tried with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from agentq_nb import Actor, Queue, UserError, action


class Total(BaseModel):
    value: int = 0


class ClientActor(Actor):
    """An actor that answers, counts, broadcasts and fails."""

    state: Total = Total()
    tasks = Queue(Any, reply=Any)
    small = Queue(Any, max_size=1)
    short = Queue(Any, max_message_bytes=64)

    @tasks.handler
    async def work(self, body: Any) -> Any:
        return {"echo": body}

    @action
    async def add(self, number: int) -> int:
        self.state.value += number
        self.broadcast("added", {"value": self.state.value})
        return self.state.value

    @action
    async def echo(self, value: Any) -> Any:
        return value

    @action
    async def nothing(self) -> None: ...

    @action
    async def maybe(self) -> str | None:
        return None

    @action
    async def fail(self, how: str) -> None:
        if how == "user":
            raise UserError("Not this one.", code="own", metadata={"pair": ["$x", 1]})
        raise ValueError("password=hunter2")
