"""A handle to one actor: send to its queues, call its actions, ask how it stands."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, Literal, overload

from agentq_nb._actor.action import Action
from agentq_nb._actor.queue import Body, Queue, Reply
from agentq_nb._brokers.base import Cancel, Change, Offer, Pause, Purge, Redeliver, Resume
from agentq_nb._client import queue_options
from agentq_nb._client.broadcasts import Listener
from agentq_nb._client.receipt import Receipt, Result, result_of
from agentq_nb._client.status import ActorStatus
from agentq_nb._client.transport import Transport
from agentq_nb._core import number_options
from agentq_nb._core.ids import ActorId, Key, MessageId, actor_id, key_parts, mint_id
from agentq_nb.errors import MessageTooLarge, NoHost, ValidationFailed


class ActorKind:
    """The actors registered under one name."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self._name = name

    def get_or_create(self, key: Key = (), input: Any = None) -> ActorHandle:
        """A handle; the actor is made when it is first used. ``input`` is for its ``on_create``."""
        return ActorHandle(self._transport, self._name, key, input=input)

    def get(self, key: Key = ()) -> ActorHandle:
        """A handle that raises ``actor.not_found`` when it is used and the actor was never made."""
        return ActorHandle(self._transport, self._name, key, must_exist=True)

    async def create(self, key: Key = (), input: Any = None) -> ActorHandle:
        """Make it now. Raises ``actor.duplicate_key`` when it exists, and what its ``on_create`` raises."""
        await self._transport.ready()
        await self._transport.create(actor_id(self._name, key), input)
        return ActorHandle(self._transport, self._name, key)

    def __repr__(self) -> str:
        return f"<actors {self._name}>"


def _checked(key: object) -> str:
    """An idempotency key. Raises ``actor.validation_error`` for what no file can hold."""
    if not isinstance(key, str) or key.encode("utf-8", "replace").decode() != key:
        raise ValidationFailed(f"idempotency_key must be valid text, not {key!r}.")
    return key


_PROBED = frozenset(
    [
        "columns",
        "cursor",
        "dtype",
        "execute",
        "fetchall",
        "items",
        "keys",
        "read",
        "shape",
        "to_arrow",
        "to_dict",
        "to_frame",
        "to_html",
        "to_numpy",
        "to_pandas",
        "tolist",
        "values",
    ]
)
"""What libraries look for to tell a connection, a file, a table or a mapping: an action only where a class declares it."""


class ActorHandle:
    """One actor, seen from outside. Making a handle does nothing; using it wakes the actor.

    Actions are methods: ``await handle.ingest_issue("title", "body")``. See ``agentq_nb._runtime.actions.act`` for their errors.
    """

    def __init__(
        self, transport: Transport, name: str, key: Key, *, input: Any = None, must_exist: bool = False
    ) -> None:
        self._transport = transport
        self._input = input
        self._must_exist = must_exist
        self.name = name
        self.key = key_parts(key)
        self.actor_id: ActorId = actor_id(name, key)

    # --- sending ------------------------------------------------------------------------------------------------------

    @overload
    async def send(
        self,
        queue: Queue[Body, Reply],
        body: Body | dict[str, Any],
        *,
        wait: Literal[False] = False,
        idempotency_key: str | None = None,
    ) -> Receipt[Reply]: ...
    @overload
    async def send(
        self,
        queue: Queue[Body, Reply],
        body: Body | dict[str, Any],
        *,
        wait: Literal[True],
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Result[Reply]: ...
    @overload
    async def send(
        self, queue: str, body: Any, *, wait: Literal[False] = False, idempotency_key: str | None = None
    ) -> Receipt[Any]: ...
    @overload
    async def send(
        self,
        queue: str,
        body: Any,
        *,
        wait: Literal[True],
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Result[Any]: ...
    async def send(
        self,
        queue: Any,
        body: Any,
        *,
        wait: bool = False,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt[Any] | Result[Any]:
        """Put a message into a queue: on disk when this returns, and then never lost.

        :param queue: its name, or the declaration: ``TaskRunner.tasks``.
        :param body: the body; checked against the queue's type before anything is written.
        :param wait: wait for the result, at most ``timeout`` seconds (None: for ever). The work goes on when the wait
            ends, and the result can be had later from ``client.receipt(result.message_id)``.
        :param idempotency_key: names the message while it is live or completed: sending again gives its receipt back.
            A message that failed for good or was cancelled has freed its key: sending again makes a second message,
            and the dead letter stays. ``redeliver`` puts the first one back instead.

        Raises ``queue.unknown``, ``actor.unknown``, ``actor.validation_error``, ``queue.message_too_large``,
        ``queue.full``, ``queue.idempotency_conflict`` (nothing was written), and ``queue.wait_would_deadlock``.
        """
        if timeout is not None:
            if not wait:
                raise TypeError("timeout is for waiting: send(..., wait=True, timeout=...).")
            timeout = number_options.seconds("timeout", timeout)
        transport = self._transport
        await transport.ready()
        declared = queue_options.declared(
            transport.classes, self.name, queue.name if isinstance(queue, Queue) else queue
        )
        encoded = declared.body.dump(body, lambda: f"Body for queue '{declared.name}' of actor '{self.name}'")
        if len(encoded) > declared.max_message_bytes:
            raise MessageTooLarge(self.actor_id, declared.name, len(encoded), declared.max_message_bytes)
        key = None if idempotency_key is None else _checked(idempotency_key)
        offer = Offer(mint_id(), self.actor_id, declared.name, encoded, idempotency_key=key, max_size=declared.max_size)
        if self._must_exist:
            await transport.require(self.actor_id)
        elif self._input is not None:
            await transport.ensure(self.actor_id, self._input)
        if wait:
            return result_of(await transport.send_and_wait(offer, timeout))
        return Receipt(await transport.send(offer), transport)

    # --- changing what was sent ---------------------------------------------------------------------------------------

    async def cancel(self, message_id: MessageId) -> bool:
        """Settle a message as cancelled; a handler that is at it is stopped. False when it was settled already."""
        return await self._change(Cancel(message_id)) > 0

    async def redeliver(self, message_id: MessageId) -> bool:
        """Put a dead letter, or a cancelled message, back into its queue; its attempts count anew."""
        return await self._change(Redeliver(message_id)) > 0

    async def purge(self, queue: str | Queue[Any, Any]) -> int:
        """Cancel every message of the queue that nobody handles just now; how many there were.

        Raises ``queue.unknown``, ``actor.unknown``.
        """
        return await self._change(Purge(await self._present(queue)))

    async def pause(self, queue: str | Queue[Any, Any], until: float | datetime | None = None) -> None:
        """Hand out nothing of the queue until :meth:`resume`, or until a time; durable on return.

        What is being handled goes on, and sending does too. A restart changes nothing of it; one that ends while no host
        runs has ended when the next one starts.

        :param until: seconds since 1970, or a datetime (a naive one is local time). It replaces that of an earlier pause.

        Raises ``queue.unknown``, ``actor.unknown``, and ``actor.validation_error`` for a time that is not to come.
        """
        name = await self._present(queue)
        await self._change(Pause(name, queue_options.end_of_pause(until, self._transport.now())))

    async def resume(self, queue: str | Queue[Any, Any]) -> bool:
        """Go on with a paused queue; durable on return. False when it was not paused.

        Raises ``queue.unknown``, ``actor.unknown``.
        """
        return await self._change(Resume(await self._present(queue))) > 0

    async def _change(self, change: Change) -> int:
        await self._transport.ready()
        return await self._transport.change(self.actor_id, change)

    async def _present(self, queue: str | Queue[Any, Any]) -> str:
        """The queue's name. Raises ActorUnknown, QueueUnknown."""
        name = queue.name if isinstance(queue, Queue) else queue
        return queue_options.standing(await self.status(), self._transport.classes, self.actor_id, name).queue

    # --- asking -------------------------------------------------------------------------------------------------------

    async def status(self) -> ActorStatus:
        """Its state, its queues and its last failure. Does not wake it."""
        await self._transport.ready()
        return await self._transport.status(self.actor_id)

    def on(self, event: str, callback: Listener) -> Callable[[], None]:
        """Call ``callback(payload)`` for each event the actor broadcasts from now on; calling the result ends it.

        It is called in the event loop that runs where ``on`` is called (a notebook's cell: the kernel's), also when the
        host has a thread of its own; where none runs, in the loop of the host. It must not block, nor change what it is
        given. A stop of the host ends it.
        """
        return self._transport.listen(self.actor_id, event, callback)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name.startswith("_"):  # IPython and copy probe for these: never an action
            raise AttributeError(name)
        if name in _PROBED and name not in self._actions():
            raise AttributeError(name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            transport = self._transport
            await transport.ready()
            if self._must_exist:
                await transport.require(self.actor_id)
            return await transport.call(self.actor_id, name, args, kwargs, self._input)

        call.__name__ = name
        call.__qualname__ = f"{self.name}.{name}"
        if (action := self._actions().get(name)) is not None:
            call.__doc__ = action.function.__doc__
            call.__signature__ = action.signature  # type: ignore[attr-defined]  # what inspect.signature looks for
        return call

    def __dir__(self) -> list[str]:
        """With the actions of its class, for those who complete with the keyboard."""
        return [*super().__dir__(), *self._actions()]

    def _actions(self) -> Mapping[str, Action]:
        """Those of the class that is registered; none where no host runs."""
        try:
            cls = self._transport.classes.get(self.name)
        except NoHost:
            return {}
        return {} if cls is None else cls.declared.actions

    def __repr__(self) -> str:
        return f"<ActorHandle {self.actor_id}>"
