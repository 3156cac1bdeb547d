"""The proxy of one VM: it answers requests that carry the token of one of the VM's open sessions.

It runs in the network's thread, so that agents go on while a cell blocks the kernel.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from agentq_nb._policies.provider_limits import ProviderLimit
from agentq_nb.agent_os.meter.access import ModelAccess
from agentq_nb.agent_os.meter.account import Account, BudgetSpentNow, TooManyRequests
from agentq_nb.agent_os.meter.llm import Provider
from agentq_nb.agent_os.meter.upstream import AgentRequest, Forwarded, Unreachable, forward, new_client
from agentq_nb.agent_os.meter.usage import Usage, cost_of
from agentq_nb.agent_os.tools.http_server import listen

if TYPE_CHECKING:
    import httpx2
    from starlette.types import Receive, Scope, Send

_LARGEST_REQUEST = 100 << 20  # bytes; the largest of the providers' own limits
_IDLE = 300  # seconds that a connection may be idle: longer than clients keep theirs

Record = Callable[[ModelAccess, Mapping[str, Any]], None]
Spent = Callable[[Account, BudgetSpentNow], None]


class ModelServer:
    """Answers the requests of one VM's sessions.

    ``record`` is called in the network's thread with the facts of each request that asked a model, and ``spent`` with each
    refusal because a budget is spent.
    """

    def __init__(self, accounts: Mapping[Provider, Account], record: Record, spent: Spent) -> None:
        self.accounts = accounts
        self.accesses: dict[str, ModelAccess] = {}
        """By session. Changed in the host's thread."""
        self._record = record
        self._spent = spent
        self._client: httpx2.AsyncClient
        self._closing: asyncio.Event
        self._task: asyncio.Task[None]

    async def open(self, listener: socket.socket) -> None:
        """Begin to answer. Call it in the network's loop."""
        self._closing = asyncio.Event()
        starting = asyncio.get_running_loop().create_task
        # A context of its own: the task is not part of the call that first needed it.
        serving = listen(self._answer, listener, self._closing, _IDLE)
        self._task = starting(serving, name="agentq meter", context=contextvars.Context())

    def prepare(self) -> None:
        """Prepare what takes a while, outside of any loop. Blocks."""
        self._client = new_client()
        for account in self.accounts.values():
            cost_of(account.llm, "none", Usage())  # the first time takes half a second

    async def aclose(self) -> None:
        """Stop answering; requests under way are cut off. Call it in the network's loop."""
        self._closing.set()
        await asyncio.wait({self._task})
        await self._client.aclose()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. What carries no valid token is refused unread."""
        request = AgentRequest(scope["method"], "", scope["query_string"], list(scope["headers"]), b"")
        access = self._access(request.token)
        if access is None:
            await _refuse(send, 401, "authentication_error", "This needs the token of a session that is open.")
            return
        account, request.path = self._place(unquote(scope["path"]))
        style = None if account is None else account.llm.style
        asks = style is not None and scope["method"] == "POST" and style.model_calls.fullmatch(request.path)
        if account is None or style is None or not (asks or style.others.fullmatch(request.path)):
            why = f"{scope['method']} {scope['path']} is not passed on: only requests to the VM's language models are."
            await _refuse(send, 403, "permission_error", why)
            return
        body = await _body(receive)
        if body is None:
            await _refuse(send, 413, "request_too_large", f"A request may have {_LARGEST_REQUEST:,} bytes.")
            return
        request.body = body
        if asks and request.in_background:
            await _refuse(
                send, 403, "permission_error", "Requests in the background are not passed on: nothing counts them."
            )
            return
        answering = self._metered if asks else self._unmetered
        access.under_way += 1
        work = asyncio.ensure_future(answering(account, access, request, send))
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
            access.under_way -= 1
        if not work.cancelled():
            work.result()

    def _access(self, token: bytes) -> ModelAccess | None:
        found = [access for access in tuple(self.accesses.values()) if access.fits(token)]
        return found[0] if found else None

    def _place(self, path: str) -> tuple[Account | None, str]:
        for account in self.accounts.values():
            prefix = account.llm.style.prefix
            if path.startswith(f"{prefix}/"):
                return account, path.removeprefix(prefix)
        return None, path

    async def _unmetered(self, account: Account, access: ModelAccess, request: AgentRequest, send: Send) -> None:
        try:
            await forward(self._client, account.llm, request, send, Forwarded())
        except Unreachable as error:
            await _refuse(send, 502, "api_error", f"{error}.")

    async def _metered(self, account: Account, access: ModelAccess, request: AgentRequest, send: Send) -> None:
        turn = access.turn
        batch = None if turn is None or turn.handling is None else turn.handling.batch
        try:
            await account.admit(batch)
        except BudgetSpentNow as error:
            self._spent(account, error)
            if turn is not None and not turn.over:
                turn.budget_spent, turn.resumes_at = str(error), error.resumes_at
                with suppress(RuntimeError):  # the host's loop has ended, and the prompt with it
                    turn.give_up()
            await _refuse(send, 402, "billing_error", str(error))
            return
        except TooManyRequests as error:
            if turn is not None:
                turn.limit = ProviderLimit("requests", datetime.now(UTC) + timedelta(seconds=error.seconds))
            retry_after = (b"retry-after", str(max(1, round(error.seconds))).encode())
            await _refuse(send, 429, "rate_limit_error", str(error), retry_after)
            return
        forwarded = Forwarded()
        try:
            await forward(self._client, account.llm, request, send, forwarded)
        except Unreachable as error:
            await _refuse(send, 502, "api_error", f"{error}.")
        finally:
            facts = _facts(account, access, request, forwarded, batch)
            if turn is not None:
                turn.limit = forwarded.limit
                turn.add(facts)
            self._record(access, facts)


def _facts(
    account: Account, access: ModelAccess, request: AgentRequest, forwarded: Forwarded, batch: str | None
) -> dict[str, Any]:
    """Count a request, and return what is recorded of it."""
    reader = forwarded.reader
    model = (reader and reader.model) or request.model
    facts: dict[str, Any] = {
        "llm": account.llm.name,
        "provider": account.llm.provider,
        "agent": access.agent,
        "session": access.session_id,
        "model": model,
        "status": forwarded.status,
        "complete": forwarded.complete,
        "seconds": round(forwarded.seconds, 4),
    }
    if reader is not None and (usage := reader.usage) is not None:
        facts |= {
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cache_read_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
            "cost": account.charge(model, usage, batch),
        }
    handling = None if access.turn is None else access.turn.handling
    if handling is not None:
        facts |= {"message": handling.message, "worker": handling.actor, "queue": handling.queue}
    return facts if batch is None else {**facts, "batch": batch}


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None if it is too large, or its client hung up."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > _LARGEST_REQUEST:
            return None
        if not message.get("more_body"):
            return b"".join(pieces)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, status: int, kind: str, why: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer with an error as all the providers' clients understand it."""
    body = json.dumps(
        {"type": "error", "error": {"type": kind, "code": status, "status": kind, "message": why}}
    ).encode()
    described = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    with suppress(OSError):
        await send({"type": "http.response.start", "status": status, "headers": described})
        await send({"type": "http.response.body", "body": body})
