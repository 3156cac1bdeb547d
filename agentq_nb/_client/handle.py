"""Handles to actors: send to an actor's queues, call its actions, read its status."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, Unpack, overload

from agentq_nb._actor.action import Action
from agentq_nb._actor.message import Body, Reply
from agentq_nb._actor.queue import Queue
from agentq_nb._actor.send_options import (
    NO_OPTIONS,
    BatchOptions,
    SendOptions,
    shows_batch_options,
    shows_options,
    stored_options,
)
from agentq_nb._brokers.changes import Cancel, Change, Pause, Purge, Redeliver, Resume
from agentq_nb._client import handle_arguments
from agentq_nb._client.batch import Batch
from agentq_nb._client.batch_bodies import new_batch
from agentq_nb._client.broadcasts import Listener
from agentq_nb._client.receipt import Receipt, Result, result_of
from agentq_nb._client.status import ActorStatus
from agentq_nb._client.transport import Transport
from agentq_nb._core import number_options
from agentq_nb._core.ids import ActorId, Key, MessageId, actor_id, key_parts
from agentq_nb._core.table_rows import table_kind
from agentq_nb.errors import NoHost


class ActorKind:
    """The actors registered under one name."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self._name = name

    def get_or_create(self, key: Key = (), input: Any = None) -> ActorHandle:
        """Return a handle. The actor is created when the handle is first used; ``on_create`` receives ``input``."""
        return ActorHandle(self._transport, self._name, key, input=input)

    def get(self, key: Key = ()) -> ActorHandle:
        """Return a handle that, when used, raises ``actor.not_found`` if the actor was never created."""
        return ActorHandle(self._transport, self._name, key, must_exist=True)

    async def create(self, key: Key = (), input: Any = None) -> ActorHandle:
        """Create the actor now. Raises ``actor.duplicate_key`` if it exists, and what its ``on_create`` raises."""
        await self._transport.ready()
        await self._transport.create(actor_id(self._name, key), input)
        return ActorHandle(self._transport, self._name, key)

    def __repr__(self) -> str:
        return f"<actors {self._name}>"


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
"""Names that libraries look for to recognize a connection, file, table or mapping: actions only where declared."""


class ActorHandle:
    """A reference to one actor: send to its queues, call its actions, ask for its status.

        runner = create_client().task_runner.get_or_create("main")
        receipt = await runner.send("tasks", {"prompt": "Review PR #123"})
        count = await runner.done()             # an action of its class

    Making a handle does nothing; using it wakes the actor. It can be used in any event loop and thread.
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
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Receipt[Reply]: ...
    @overload
    async def send(
        self,
        queue: Queue[Body, Reply],
        body: Body | dict[str, Any],
        *,
        wait: Literal[True],
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Result[Reply]: ...
    @overload
    async def send(
        self,
        queue: str,
        body: Any,
        *,
        wait: Literal[False] = False,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Receipt[Any]: ...
    @overload
    async def send(
        self,
        queue: str,
        body: Any,
        *,
        wait: Literal[True],
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Result[Any]: ...
    @shows_options
    async def send(
        self,
        queue: Any,
        body: Any,
        *,
        wait: bool = False,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Receipt[Any] | Result[Any]:
        """Send a message to a queue. It is durable when this returns. Returns a receipt, or a result with ``wait``.

            receipt = await runner.send("tasks", {"prompt": "Review PR #123"}, priority=1, delay=timedelta(minutes=5))

        :param queue: the queue's name, or its declaration: ``TaskRunner.tasks``.
        :param body: the body; validated against the queue's type before anything is written.
        :param wait: whether to wait for the result, at most ``timeout`` seconds (None: no limit). A timeout ends the wait,
            not the work; ``client.receipt(result.message_id)`` asks for the result later.
        :param timeout: seconds to wait for the result, and for room in a full queue that declares ``on_full="wait"``. If
            there is no room by then, ``queue.full`` is raised.
        :param idempotency_key: makes sending twice safe. While a message with this key is unsettled or completed, sending
            again with the same body and ``after`` returns its receipt and changes nothing. Its key is free once it becomes a
            dead letter, expires or is cancelled. To repeat such a message, redeliver it rather than sending again.
        :param priority: a whole number. The queue hands out higher ones first, and equal ones in the order of sending. A
            message that comes back after a failed attempt still goes before all others.
        :param delay: seconds from now, or a timedelta, before which the message is not delivered (at most 100 years). Until
            then it is ``delayed``, even across restarts. When it is due, it takes its place by priority.
        :param ttl: seconds, or a timedelta, counted from when the message is due, also while its queue is paused or no host
            runs. A message that is not started within this time is settled as ``expired`` and never delivered. One that
            was started once, or redelivered, does not expire. None: the queue's ``ttl``; ``float("inf")``: no limit.
        :param after: receipts (or ids) of messages of the same store, one or a list. This message is due once all of them
            have completed, even across restarts; until then it is ``blocked``, and takes room in its queue. ``delay`` and
            ``ttl`` count from then on. Its handler gets their results as ``message.after``. If one of them fails, expires or
            is cancelled, so is this one, with that reason; redelivering that one brings it back.

        Raises ``queue.unknown``, ``actor.unknown``, ``actor.validation_error``, ``queue.message_too_large``,
        ``queue.full``, ``queue.idempotency_conflict``, ``queue.predecessor_unknown`` and ``queue.predecessor_failed``
        (nothing was written), and ``queue.wait_would_deadlock``.
        """
        stored = stored_options(options) if options else NO_OPTIONS
        only_for_room = timeout is not None and not wait
        if timeout is not None:
            timeout = number_options.seconds("timeout", timeout)
        transport = self._transport
        classes = await transport.ready()
        declared = handle_arguments.declared(classes, self.name, queue.name if isinstance(queue, Queue) else queue)
        waits_for_room = declared.on_full == "wait"
        if only_for_room and not waits_for_room:
            raise TypeError('timeout is for waiting: send(..., wait=True, timeout=...), or Queue(..., on_full="wait").')
        new_message = handle_arguments.new_message(declared, self.actor_id, body, stored)
        if self._must_exist:
            await transport.require(self.actor_id)
        elif self._input is not None:
            await transport.ensure(self.actor_id, self._input)
        if wait:
            return result_of(await transport.send_and_wait(new_message, timeout, waits_for_room=waits_for_room))
        return Receipt(await transport.send(new_message, timeout if waits_for_room else 0.0), transport)

    @shows_batch_options
    async def send_many(
        self,
        queue: str | Queue[Any, Any],
        bodies: Iterable[Any],
        *,
        name: str | None = None,
        redo: bool = False,
        timeout: float | None = None,
        **options: Unpack[BatchOptions],
    ) -> Batch[Any]:
        """Send many messages as one batch, all or none. They are durable when this returns.

            batch = await runner.send_many("tasks", [{"prompt": text} for text in texts], name="reviews-v1")
            results = await batch.results()

        :param queue: the queue's name, or its declaration: ``TaskRunner.tasks``.
        :param bodies: a list, another iterable, a DataFrame (its rows become dicts) or a Series. Each body is validated
            before anything is written.
        :param name: the batch's name, by which ``await registry.batch(name)`` finds it again. Sending to the name of an
            existing batch continues it: bodies that it already has are not sent again, in any order and with any status.
            Ten equal bodies are ten messages. None: a name is generated.
        :param redo: whether to send again the bodies whose messages are settled, too.
        :param timeout: how many seconds to wait for room for the whole batch in a full queue that declares
            ``on_full="wait"``; then ``queue.full`` is raised. None: no limit.
        :param priority: this and the other options are those of :meth:`send`.

        A batch of more than about 10,000 small messages is written in several commits, each all or none. If the process dies
        between two of them, send the batch again by its name.

        Raises what :meth:`send` raises, ``queue.batch_too_large``, ``batch.name_taken`` and ``batch.pruned``; then nothing
        was written.
        """
        if "idempotency_key" in options:
            raise TypeError(
                "send_many takes no idempotency_key: sending to the batch's name again sends nothing twice."
            )
        stored = stored_options(options)
        transport = self._transport
        classes = await transport.ready()
        declared = handle_arguments.declared(classes, self.name, queue.name if isinstance(queue, Queue) else queue)
        waits_for_room = declared.on_full == "wait"
        if timeout is not None and not waits_for_room:
            raise TypeError('timeout is for waiting for room in a full queue: Queue(..., on_full="wait").')
        room_timeout = number_options.seconds("timeout", timeout) if waits_for_room else 0.0
        batch = await new_batch(declared, self.actor_id, bodies, name, stored, again=redo)
        if self._must_exist:
            await transport.require(self.actor_id)
        elif self._input is not None:
            await transport.ensure(self.actor_id, self._input)
        sent = await transport.batches.send(batch, room_timeout)
        return Batch(transport, sent, bodies if table_kind(bodies) else None)

    # --- changing sent messages and queues ----------------------------------------------------------------------------

    async def cancel(self, message_id: MessageId) -> bool:
        """Cancel a message and stop its handler if it runs. Returns False if the message was settled already."""
        return await self._change(Cancel(message_id)) > 0

    async def redeliver(self, message_id: MessageId) -> bool:
        """Put a dead letter, or a cancelled or expired message, back into its queue and reset its attempts."""
        return await self._change(Redeliver(message_id)) > 0

    async def purge(self, queue: str | Queue[Any, Any]) -> int:
        """Cancel all waiting messages of the queue, but not those in flight; return their number.

        Raises ``queue.unknown``, ``actor.unknown``.
        """
        return await self._change(Purge(await self._present(queue)))

    async def pause(self, queue: str | Queue[Any, Any], until: float | datetime | None = None) -> None:
        """Deliver no messages of the queue until :meth:`resume`, or until a time; durable on return.

        A running handler finishes, and messages can still be sent. A pause survives restarts, and also ends while no host
        runs.

        :param until: seconds since 1970, or a datetime (a naive one is local time). It replaces the end of an earlier pause.

        Raises ``queue.unknown``, ``actor.unknown``, and ``actor.validation_error`` for a time in the past.
        """
        name = await self._present(queue)
        await self._change(Pause(name, handle_arguments.end_of_pause(until, self._transport.now())))

    async def resume(self, queue: str | Queue[Any, Any]) -> bool:
        """End the pause of a queue; durable on return. Returns False when it was not paused.

        Raises ``queue.unknown``, ``actor.unknown``.
        """
        return await self._change(Resume(await self._present(queue))) > 0

    async def _change(self, change: Change) -> int:
        await self._transport.ready()
        return await self._transport.change(self.actor_id, change)

    async def _present(self, queue: str | Queue[Any, Any]) -> str:
        """Return the queue's name. Raises ActorUnknown, QueueUnknown."""
        name = queue.name if isinstance(queue, Queue) else queue
        return handle_arguments.standing(await self.status(), self._transport.classes, self.actor_id, name).queue

    # --- status and events --------------------------------------------------------------------------------------------

    async def status(self) -> ActorStatus:
        """Return the actor's status: its state, its queues and its last failure. Does not wake it."""
        await self._transport.ready()
        return await self._transport.status(self.actor_id)

    def on(self, event: str, callback: Listener) -> Callable[[], None]:
        """Call ``callback(payload)`` for each event that the actor broadcasts from now on. Returns a function to stop it.

        The callback runs on the event loop that was running when ``on`` was called (in a cell, the kernel's); if none was,
        on the host's. It must not block or change the payload. Stopping the host ends the calls.
        """
        return self._transport.listen(self.actor_id, event, callback)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name.startswith("_"):  # IPython and copy look for these: never an action
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
        """Include the actions of the actor's class, for completion."""
        return [*super().__dir__(), *self._actions()]

    def _actions(self) -> Mapping[str, Action]:
        """Return the registered class's actions; none where no host runs."""
        try:
            cls = self._transport.classes.get(self.name)
        except NoHost:
            return {}
        return {} if cls is None else cls.declared.actions

    def __repr__(self) -> str:
        return f"<ActorHandle {self.actor_id}>"
