"""Calls to a host in another process, over HTTP: sent again when the connection fails, where that is safe."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import httpx2

from agentq_nb._core.error_fields import error_of
from agentq_nb._core.origin import PROCESS, current_origin
from agentq_nb._core.threads import in_thread
from agentq_nb._gateway.client_loop import close_at_exit, finish_in_background
from agentq_nb._gateway.request import MAX_BODY, ORIGIN_HEADER
from agentq_nb._gateway.transport_calls import LONGEST_WAIT, Call
from agentq_nb.errors import AgentqError, BodyTooLarge, GatewayError, HostUnreachable, NoHost, Refused, Unavailable

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

Patience: TypeAlias = float | Literal["default"] | None
"""Seconds for which a call is repeated while the host cannot be reached; None: without end."""

PATIENCE = 15.0
"""The default: a kernel restarts in less."""

_FIRST_PATIENCE = 2.0
"""The same for a client that has never reached its host: its address may be wrong."""

READ_TIMEOUT = LONGEST_WAIT + 20.0
"""Seconds without an answer after which a connection is taken to be dead, for calls that the server answers in time."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

_CONNECT_TIMEOUT, _WRITE_TIMEOUT = 5.0, 60.0
_IDLE = 30.0
"""Seconds that an unused connection is kept. It is less than the server does, so that none is used while it closes."""

_OF_PROXIES = (502, 503, 504)
"""HTTP statuses by which a proxy says that it cannot reach the server."""

_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=50, keepalive_expiry=_IDLE)


class Address(NamedTuple):
    """Where a host's server is, and the secret that it demands.

    :ivar url: without the path; of a Unix socket, a name that its server knows.
    :ivar socket: the path of its Unix socket; None: it is a TCP server.
    """

    url: str
    token: str
    socket: str | None = None

    @property
    def place(self) -> str:
        return self.url if self.socket is None else self.socket


class _NotAnsweredError(Exception):
    """The host did not answer, or could not.

    :ivar was_sent: it may still have done what was asked.
    :ivar error: what it answered, if it did.
    """

    def __init__(self, reason: str, *, was_sent: bool, error: AgentqError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_sent = was_sent
        self.error = error


class RemoteCalls:
    """Sends calls to one host. It belongs to the loop of :func:`client_loop`.

    :param find: returns where the host is now; called again when that cannot be reached, in a worker thread.
        Raises LookupError where there is none, saying so.
    :param patience: seconds for which a call is repeated while the host cannot be reached.
    """

    def __init__(self, find: Callable[[], Address], place: str, patience: float = PATIENCE) -> None:
        self._find = find
        self._place = place
        self._patience = patience
        self._open: tuple[Address, httpx2.AsyncClient] | None = None
        self._is_current = False
        self._has_answered = False

    async def ask(
        self,
        call: Call[Asked, Answered],
        asked: Asked,
        *,
        patience: Patience = "default",
        read_timeout: float | None = READ_TIMEOUT,
    ) -> Answered:
        """Return the host's answer. Raises its errors.

        :param patience: seconds for which the call is repeated while the host cannot be reached; None: without end.
        :param read_timeout: seconds to wait for the answer; None: without end.

        Raises HostUnreachable and BodyTooLarge (nothing was done), and Unavailable if that is not known.
        """
        body = call.write_request(asked)
        if len(body) > MAX_BODY:
            raise BodyTooLarge(MAX_BODY)
        if patience == "default":
            patience = self._patience if self._has_answered else min(self._patience, _FIRST_PATIENCE)
        clock = asyncio.get_running_loop().time
        deadline, pause, was_sent = None if patience is None else clock() + patience, _FIRST_PAUSE, False
        while True:
            try:
                answer = await self._post(call.name, body, read_timeout)
                break
            except _NotAnsweredError as error:
                was_sent = was_sent or error.was_sent
                if (was_sent and not call.repeatable) or (deadline is not None and clock() + pause > deadline):
                    raise error.error or self._gave_up(error.reason, was_sent) from None
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(2 * pause, _LONGEST_PAUSE)
        try:
            return call.read_answer(answer)
        except ValueError:
            raise GatewayError(
                f"The answer of the host of {self._place} to {call.name} cannot be read: it has another version of "
                "agentq_nb."
            ) from None

    def _gave_up(self, reason: str, was_sent: bool) -> AgentqError:
        if not was_sent:
            return HostUnreachable(self._place, reason)
        return Unavailable(
            f"The connection to the host of {self._place} was lost ({reason}), so it is not known whether the call was "
            "carried out. Look with status() or results, then repeat it if needed."
        )

    async def _post(self, name: str, body: bytes, read_timeout: float | None) -> bytes:
        """Send a request and return the body of its answer. Raises _NotAnsweredError, and the host's error."""
        address, client = await self._connected()
        timeout = httpx2.Timeout(connect=_CONNECT_TIMEOUT, write=_WRITE_TIMEOUT, read=read_timeout, pool=None)
        headers = {"x-rivet-token": address.token, "content-type": "application/json"}
        if (origin := current_origin.get()) != PROCESS:
            headers[ORIGIN_HEADER] = origin
        try:
            response = await client.post(
                f"{address.url}/transport/{name}", content=body, headers=headers, timeout=timeout
            )
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            self._is_current = False
            raise _NotAnsweredError(_said(error), was_sent=False) from None
        except httpx2.RequestError as error:
            self._is_current = False
            raise _NotAnsweredError(_said(error), was_sent=True) from None
        self._has_answered = True
        if response.status_code == 200:
            return response.content
        error = error_of(response.content)
        if response.status_code == 401 and await self._has_moved(address):
            raise _NotAnsweredError("it was started again", was_sent=False)
        if isinstance(error, NoHost):
            raise _NotAnsweredError(error.message, was_sent=False)
        if isinstance(error, Refused) and error.code == "busy":
            raise _NotAnsweredError(error.message, was_sent=False, error=error)
        if isinstance(error, Unavailable):
            raise _NotAnsweredError(error.message, was_sent=True, error=error)
        if error is None and response.status_code in _OF_PROXIES:
            raise _NotAnsweredError(f"HTTP status {response.status_code}", was_sent=True)
        if error is None:
            raise GatewayError(
                f"What answers at {self._place} is no server of agentq_nb: HTTP status {response.status_code}. Give the "
                "url that registry.serve(...) or %agentq serve shows."
            )
        raise error

    async def _connected(self) -> tuple[Address, httpx2.AsyncClient]:
        """Return where the host is, and the connections to it. Raises _NotAnsweredError."""
        if self._open is None or not self._is_current:
            address = await self._found()
            if self._open is None or self._open[0] != address:
                if self._open is not None:
                    self.begin_to_close()
                self._open = address, _client_of(address)
                close_at_exit.add(self._close)
            self._is_current = True
        return self._open

    def begin_to_close(self) -> None:
        """Close the connections in the background. The next call opens others."""
        close_at_exit.discard(self._close)
        if self._open is not None:
            (_, client), self._open = self._open, None
            finish_in_background(client.aclose())

    async def _close(self) -> None:
        """Close the connections at the end of the process."""
        if self._open is not None:
            (_, client), self._open = self._open, None
            await client.aclose()

    async def _found(self) -> Address:
        """Return where the host is now. Raises _NotAnsweredError."""
        try:
            return await in_thread(self._find)  # it may read files
        except LookupError as error:
            raise _NotAnsweredError(str(error), was_sent=False) from None

    async def _has_moved(self, address: Address) -> bool:
        """Whether the host is found elsewhere now, or with another secret."""
        if await self._found() == address:
            return False
        self._is_current = False
        return True


def _client_of(address: Address) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(
        verify=address.url.startswith("https:"),  # reading certificates takes a tenth of a second
        uds=address.socket,
        limits=_LIMITS,
        socket_options=_KEPT_ALIVE if address.socket is None else None,
    )
    # A proxy of the environment must not get the token.
    return httpx2.AsyncClient(transport=transport, trust_env=False)


def _keep_alive_options() -> list[tuple[int, int, int]]:
    """Return socket options that notice a host which is gone without a word: a call may wait without end."""
    named = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    known = [(getattr(socket, name), value) for name, value in named.items() if hasattr(socket, name)]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *((socket.IPPROTO_TCP, *each) for each in known)]


_KEPT_ALIVE = _keep_alive_options()


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
