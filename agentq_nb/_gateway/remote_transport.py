"""The transport to a host in another process: over HTTP, or over its local socket."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.batches import Batches
from agentq_nb._brokers.changes import Change, Pause
from agentq_nb._brokers.messages import NewMessage
from agentq_nb._client.broadcasts import Listener
from agentq_nb._client.class_descriptions import made_class
from agentq_nb._client.status import ActorStatus
from agentq_nb._client.transport import Standing, registered_name
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import ActorId, MessageId, actor_name, snake_case
from agentq_nb._core.message_status import is_final
from agentq_nb._core.tagged_values import dumped, loaded
from agentq_nb._gateway import transport_calls as calls
from agentq_nb._gateway.client_loop import client_loop, close_when_unused
from agentq_nb._gateway.remote_batches import RemoteBatches
from agentq_nb._gateway.remote_calls import PATIENCE, READ_TIMEOUT, Address, Patience, RemoteCalls
from agentq_nb._gateway.remote_events import RemoteEvents
from agentq_nb._gateway.remote_waits import wait_until
from agentq_nb._gateway.transport_calls import Call
from agentq_nb._store.running_host import find_host
from agentq_nb.errors import AgentqError, GatewayError, HostUnreachable, ValidationFailed

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

_TOKEN = "AGENTQ_TOKEN"

_FRESH = 1.0
"""Seconds for which what the host has said of its classes is used: it may deploy others at any time."""

_AT_ONCE = 2.0
"""Seconds that code without an event loop, such as completion, waits for the host at most."""


class RemoteTransport:
    """See :class:`agentq_nb._client.transport.Transport`.

    :param find: returns where the host is now. Raises LookupError where there is none.
    :param place: what to call the host in texts: its url, or the path of its file.
    :param use: classes that the caller has too, by name: their types are those of bodies and replies here.
    :param patience: seconds for which a call is repeated while the host cannot be reached.
    """

    def __init__(
        self,
        find: Callable[[], Address],
        place: str,
        use: Mapping[str, type[Actor]] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.place = place
        self.would_block = False
        self._portal = client_loop()
        self._remote = RemoteCalls(find, place, patience)
        self._events = RemoteEvents(self._remote, self._portal)
        self._given = dict(use or {})
        self._classes: Mapping[str, type[Actor]] = {}
        self._described: Mapping[str, Any] = {}
        self._asked_at = -_FRESH
        self._failed_at = -_AT_ONCE
        self._ahead = 0.0
        self._lock = threading.Lock()
        close_when_unused(self, self._portal, self._remote.begin_to_close)  # its listeners open other connections

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        call: Call[Asked, Answered],
        asked: Asked,
        /,
        *,
        patience: Patience = "default",
        read_timeout: float | None = READ_TIMEOUT,
    ) -> Answered:
        """Send a call, from any loop. What it causes reaches the listeners that were added before."""

        async def ask() -> Answered:
            await self._events.told()
            return await self._remote.ask(call, asked, patience=patience, read_timeout=read_timeout)

        return await self._portal.enter(ask)

    # --- classes ------------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> Mapping[str, type[Actor]]:
        """As the host said last; the first time it is asked, which blocks for a moment. Raises HostUnreachable."""
        now = time.monotonic()
        if self._asked_at < 0 and now - self._failed_at < _AT_ONCE:
            raise HostUnreachable(self.place, "it did not answer a moment ago")
        if self._asked_at < 0:
            asking = self._portal.submit(self._remote.ask, calls.DESCRIBE, None, patience=0.0, read_timeout=_AT_ONCE)
            try:
                self._note(asking.result())
            except AgentqError as error:
                self._failed_at = time.monotonic()
                raise HostUnreachable(self.place, error.metadata.get("reason", error.message)) from None
        return self._classes

    async def ready(self) -> Mapping[str, type[Actor]]:
        if time.monotonic() - self._asked_at > _FRESH:
            self._note(await self._ask(calls.DESCRIBE, None))
        return self._classes

    def _note(self, said: calls.HostDescription) -> None:
        if said.protocol != calls.PROTOCOL:
            raise GatewayError(
                f"The host of {self.place} has another version of agentq_nb than this client. Install the same in both."
            )
        with self._lock:
            self._ahead = said.now - time.time()
            self._asked_at = time.monotonic()
            if said.classes != self._described:
                self._described = said.classes
                self._classes = {
                    name: self._given.get(name) or made_class(name, each) for name, each in said.classes.items()
                }

    def name_of(self, cls: type[Actor]) -> str | None:
        """Return the name of the class on the host, and use its types from now on."""
        classes = self.classes
        name = registered_name(classes, cls) or snake_case(cls.__name__)
        if name not in classes:
            return None
        with self._lock:
            self._given[name] = cls
            self._classes = {**self._classes, name: cls}
        return name

    def now(self) -> float:
        return time.time() + self._ahead

    # --- messages -----------------------------------------------------------------------------------------------------

    def send(self, new_message: NewMessage, room_timeout: float | None = 0.0) -> Coroutine[Any, Any, MessageId]:
        asked = calls.Send(_plain(new_message), room_timeout)
        return self._ask(calls.SEND, asked, read_timeout=READ_TIMEOUT if room_timeout == 0 else None)

    async def send_and_wait(
        self, new_message: NewMessage, timeout: float | None, *, waits_for_room: bool = False
    ) -> Standing:
        clock = asyncio.get_running_loop().time
        deadline = None if timeout is None else clock() + timeout
        if waits_for_room:
            message = await self.send(new_message, timeout)
        else:
            seconds = calls.LONGEST_WAIT if timeout is None else min(timeout, calls.LONGEST_WAIT)
            found = await self._ask(calls.SEND_AND_WAIT, calls.SendAndWait(_plain(new_message), seconds))
            if is_final(found.stored.status) or timeout == seconds:
                return self._standing(found)
            message = found.stored.message
        left = None if deadline is None else max(0.0, deadline - clock())
        return await self.standing(message, left, explained=True)

    async def standing(self, message: MessageId, timeout: float | None, *, explained: bool = False) -> Standing:
        async def ask(seconds: float, patience: Patience) -> calls.Standing:
            return await self._ask(calls.WAIT, calls.Wait(message, seconds, explained), patience=patience)

        return self._standing(await wait_until(lambda found: is_final(found.stored.status), ask, timeout))

    def _standing(self, found: calls.Standing) -> Standing:
        return Standing(found.stored, self._replies(found.stored.actor, found.stored.queue), found.reason)

    def _replies(self, actor: ActorId, queue: str) -> Schema[Any] | None:
        """Return the type of the replies, if the caller has given the class."""
        cls = self._given.get(actor_name(actor))
        declared = None if cls is None else cls.declared.queues.get(queue)
        return None if declared is None else declared.reply

    async def cancel(self, message: MessageId) -> bool:
        return await self._ask(calls.CANCEL, message)

    async def change(self, actor: ActorId, change: Change) -> int:
        until = change.until if isinstance(change, Pause) else None
        kind = type(change).__name__.lower()
        return await self._ask(calls.CHANGE, calls.ChangeOf(actor, kind, change[0], until))  # type: ignore[arg-type]  # the name of its class

    @property
    def batches(self) -> Batches:
        return RemoteBatches(self._ask, self._portal)

    # --- actors -------------------------------------------------------------------------------------------------------

    async def create(self, actor: ActorId, input: Any) -> None:
        await self._ask(calls.CREATE, _input(actor, input), read_timeout=None)

    async def require(self, actor: ActorId) -> None:
        await self._ask(calls.REQUIRE, actor)

    async def ensure(self, actor: ActorId, input: Any) -> None:
        await self._ask(calls.ENSURE, _input(actor, input), read_timeout=None)

    async def call(
        self, actor: ActorId, action: str, args: Sequence[Any], kwargs: Mapping[str, Any], input: Any
    ) -> Any:
        what = f"The arguments of action `{action}`"
        texts = dumped(list(args), what), dumped(dict(kwargs), what), dumped(input, "The input")
        return loaded(await self._ask(calls.ACT, calls.ActionCall(actor, action, *texts), read_timeout=None))

    async def status(self, actor: ActorId) -> ActorStatus:
        return await self._ask(calls.STATUS, actor)

    def listen(self, actor: ActorId, event: str, listener: Listener) -> Callable[[], None]:
        return self._events.listen(actor, event, listener)


def _input(actor: ActorId, input: Any) -> calls.ActorInput:
    return calls.ActorInput(actor, dumped(input, f"The input of actor '{actor}'"))


def _plain(new_message: NewMessage) -> NewMessage:
    return new_message._replace(options=dict(new_message.options))


def open_transport(host: str | Path, token: str | None, use: Mapping[str, type[Actor]] | None) -> RemoteTransport:
    """Return the transport to the host at a url, or to the one that has a file open. Does not connect.

    Raises ``actor.validation_error`` for what is no url.
    """
    if isinstance(host, Path):
        return RemoteTransport(lambda: _of_store(host), str(host), use)
    address = Address(_checked_url(host), token or os.environ.get(_TOKEN, ""))
    return RemoteTransport(lambda: address, address.url, use)


def _of_store(store: Path) -> Address:
    """Return the local socket of the host that has the file open. Raises LookupError."""
    found = find_host(store)
    if found is None:
        raise LookupError("no host of this user has the file open, or it could not make its socket")
    return Address("http://localhost", found.secret, str(found.socket))


def _checked_url(url: object) -> str:
    """Return the url without a slash at its end. Raises ``actor.validation_error``."""
    if isinstance(url, str) and _is_url(url):
        return url.rstrip("/")
    raise ValidationFailed(
        f"The url of a host is like 'http://127.0.0.1:6420', as %agentq serve shows it, not {url!r:.100}. For a host on "
        "this machine: create_client(store=...)"
    )


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0
    except ValueError:  # an impossible port, or a bracket that is not closed
        return False
    is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and has_port
    return is_server and url.isprintable() and not (parts.query or parts.fragment or parts.username or " " in url)
