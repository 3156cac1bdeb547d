"""The senders of a host under test: everything that they ask for and are told goes to the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from agentq_nb import create_client
from agentq_nb.errors import AgentqError
from tests.faults.actors import ACTORS, SMALL
from tests.faults.races import pause, resume
from tests.faults.session import Session

_LARGE = 50_000
_MOST = 500
"""Messages from one sender: what is left has to be drained in the time that a run has."""


class Load:
    """The senders of one life."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begin(self, doubtful: Sequence[Sequence[Any]]) -> None:
        """Start all of them.

        :param doubtful: sends with keys that earlier lives made: actor, key, queue and number, to be made again.
        """
        start = self._session.start
        for actor, key in ACTORS:
            start(self._send_one_by_one(actor, key))
            start(self._send_in_bursts(actor, key))
        for actor, key, queue, number in doubtful:
            start(self._send_again(actor, key, queue, number))
        start(self._send_with_keys())
        start(self._ask())
        start(self._send_what_is_refused())
        start(self._fill_up())
        start(self._act())
        if self._session.fault == "exit" and self._session.life == 0:
            start(self._send_again("plain", "a", "poison", self._session.number()))

    async def _send_again(self, actor: str, key: str, queue: str, number: int) -> None:
        await self._send(actor, key, queue, number, keyed=True)

    def _body(self, number: int) -> dict[str, Any]:
        size = self._session.chance.choice([0, 0, 0, 50, 500, 3000]) if number % 40 else _LARGE
        return {"number": number, "padding": "x" * size}

    async def _send(
        self,
        actor: str,
        key: str,
        queue: str,
        number: int,
        *,
        padding: str | None = None,
        keyed: bool = False,
        sender: str | None = None,
    ) -> None:
        handle = create_client().actor(actor).get_or_create([key])
        body = self._body(number) if padding is None and not keyed else {"number": number, "padding": padding or ""}
        where = {"actor": handle.actor_id, "queue": queue, "number": number, "keyed": keyed, "sender": sender}
        self._session.pen.note("sending", **where)
        receipt = await self._session.attempt(
            "send", handle.send(queue, body, idempotency_key=f"key-{number}" if keyed else None)
        )
        if receipt is not None:
            self._session.pen.note("sent", id=receipt.id, **where)
            self._session.recent.append((actor, key, receipt.id))
            del self._session.recent[:-60]

    async def _send_one_by_one(self, actor: str, key: str) -> None:
        """Each after the last one was acknowledged: they are to be handled in this order."""
        for _ in range(_MOST):
            await self._send(actor, key, "jobs", self._session.number(), sender=f"{actor}/{key}")
            await self._session.rest(0, 0, 0.001, 0.005, 0.02)

    async def _send_in_bursts(self, actor: str, key: str) -> None:
        """Many at once; now and then so many that they are megabytes to be written at once."""
        for turn in range(_MOST // 4):
            size = 40 if turn == 6 else self._session.chance.choice([1, 2, 8])
            padding = "x" * _LARGE if turn == 6 else ""
            numbers = [self._session.number() for _ in range(size)]
            await asyncio.gather(*(self._send(actor, key, "jobs", number, padding=padding) for number in numbers))
            await self._session.rest(0.01, 0.05, 0.1)

    async def _send_with_keys(self) -> None:
        """Half of them twice."""
        for _ in range(_MOST // 4):
            number = self._session.number()
            again = self._session.chance.random()
            await self._send("plain", "a", "jobs", number, keyed=True)
            if again < 0.5:
                await self._send("plain", "a", "jobs", number, keyed=True)
            await self._session.rest(0, 0.01, 0.05)

    async def _ask(self) -> None:
        """Send and wait for the reply, sometimes not long enough."""
        handle = create_client().asked.get_or_create(["a"])
        for _ in range(_MOST // 2):
            number = self._session.number()
            self._session.pen.note(
                "sending", actor=handle.actor_id, queue="jobs", number=number, keyed=False, sender=None
            )
            timeout = self._session.chance.choice([0.001, 5, 5])
            result = await self._session.attempt(
                "wait", handle.send("jobs", {"number": number}, wait=True, timeout=timeout)
            )
            if result is not None:
                self._session.pen.note(
                    "sent", id=result.message_id, actor=handle.actor_id, queue="jobs", number=number, keyed=False
                )
                self._session.pen.note(
                    "told", id=result.message_id, number=number, status=result.status, response=result.response
                )
            await self._session.rest(0, 0.005, 0.02)

    async def _send_what_is_refused(self) -> None:
        """What is wrong with it is said, and it never comes to a handler."""
        handle = create_client().plain.get_or_create(["b"])
        while True:
            number = self._session.number()
            wrong: list[tuple[str, Any, str]] = [
                ("jobs", {"number": number, "padding": 7}, "actor.validation_error"),
                ("jobs", {"number": number, "padding": "lone \ud800"}, "actor.validation_error"),
                ("jobs", {"number": number, "padding": "x" * 3_000_000}, "queue.message_too_large"),
                ("nothing", {"number": number}, "queue.unknown"),
            ]
            queue, body, code = self._session.chance.choice(wrong)
            try:
                await handle.send(queue, body)
                self._session.pen.note("wrongly accepted", number=number, code=code)
            except AgentqError as error:
                self._session.pen.note("bad input", number=number, expected=code, code=error.full_code)
            except Exception as error:
                self._session.raw("send of bad input", error)
            await self._session.rest(0.05, 0.1)

    async def _fill_up(self) -> None:
        """More than the queue can take, while it is paused."""
        handle = create_client().plain.get_or_create(["b"])
        while True:
            if await pause(self._session, handle, "small"):
                for number in [self._session.number() for _ in range(SMALL + 3)]:
                    where = {"actor": handle.actor_id, "queue": "small", "number": number, "keyed": False}
                    self._session.pen.note("sending", **where)
                    try:
                        receipt = await handle.send("small", {"number": number})
                    except AgentqError as error:
                        self._session.refused("send", error)
                        if error.full_code == "queue.full":
                            self._session.pen.note("bad input", number=number, expected="queue.full", code="queue.full")
                    except Exception as error:
                        self._session.raw("send", error)
                    else:
                        self._session.pen.note("sent", id=receipt.id, **where)
                await resume(self._session, handle, "small")
            await self._session.rest(0.1, 0.3)

    async def _act(self) -> None:
        """Actions, and actions that are scheduled by actions."""
        for turn in range(_MOST):
            actor, key = self._session.chance.choice(ACTORS[:-1])
            handle, number = create_client().actor(actor).get_or_create([key]), self._session.number()
            name = "act" if turn % 2 else "plan"
            self._session.pen.note("acting", what=name, actor=handle.actor_id, number=number)
            done = await self._session.done(name, getattr(handle, name)(number))
            if done:
                self._session.pen.note("acted", what=name, actor=handle.actor_id, number=number)
            await self._session.rest(0, 0.005, 0.02)
