"""The language models of one VM: access for its sessions, and the rows of their requests."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from agentq_nb._actor.actor_context import Runtime
from agentq_nb._core.redaction import Redactor
from agentq_nb._core.threads import to_its_end
from agentq_nb._policies.notices import BUDGET_SPENT, budget_spent
from agentq_nb.agent_os.meter.access import TOKEN_MARK, ModelAccess
from agentq_nb.agent_os.meter.account import REQUEST, Account, BudgetSpentNow, accounts_of
from agentq_nb.agent_os.meter.llm import LLM
from agentq_nb.agent_os.network.open_network import join_loop, leave_loop

if TYPE_CHECKING:
    from agentq_nb._core.loop_thread import LoopThread
    from agentq_nb.agent_os.meter.server import ModelServer


class Metered:
    """The language models of one awake VM. Its proxy listens while the VM is awake, once a session has needed it."""

    def __init__(self, llms: Sequence[LLM], runtime: Runtime, redactor: Redactor) -> None:
        self.accounts = accounts_of(runtime.workspaces, llms)
        self._runtime = runtime
        self._redactor = redactor
        self._opening = anyio.Lock()
        self._open: tuple[ModelServer, LoopThread, str] | None = None
        redactor.add({f"the key of LLM '{llm.name}'": llm.key for llm in llms})

    async def access(self, session_id: str, agent: str) -> ModelAccess:
        """Return a session's access; the first one opens the proxy."""
        async with self._opening:
            if self._open is None:
                self._open = await self._opened()
            server, _, origin = self._open
            if session_id not in server.accesses:
                made = ModelAccess(session_id, agent, origin, tuple(server.accounts))
                self._redactor.add({"the token of a session": made.token, "the tokens of sessions": TOKEN_MARK})
                made.revoke = lambda: server.accesses.pop(session_id, None)
                server.accesses[session_id] = made
            return server.accesses[session_id]

    def refusal(self, batch: str | None) -> BudgetSpentNow | None:
        """Return why a prompt would only be cancelled: a budget is spent, and was not raised in time."""
        for account in self.accounts:
            if (refusal := account.refusal(batch)) is not None:
                self._announce(account, refusal)
                return refusal
        return None

    async def ready(self) -> None:
        """Read from the log what was spent, where that is not known yet."""
        for account in self.accounts:
            await account.ready(self._runtime.records.fetch)

    async def aclose(self) -> None:
        """Invalidate all tokens and close the proxy."""
        async with self._opening:
            opened, self._open = self._open, None
            if opened is None:
                return
            server, thread, _ = opened
            server.accesses.clear()
            with anyio.CancelScope(shield=True), suppress(RuntimeError):  # the thread has ended, and the proxy with it
                await thread.portal.enter(server.aclose)
            leave_loop(thread)

    async def _opened(self) -> tuple[ModelServer, LoopThread, str]:
        await self.ready()
        # The libraries for HTTP take a while to load.
        servers = await to_its_end(importlib.import_module, "agentq_nb.agent_os.meter.server")
        loop = asyncio.get_running_loop()

        def record(access: ModelAccess, facts: Mapping[str, Any]) -> None:
            with suppress(RuntimeError):  # the host's loop has ended
                loop.call_soon_threadsafe(self._write, facts)

        def spent(account: Account, refusal: BudgetSpentNow) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._announce, account, refusal)

        accounts = {account.llm.provider: account for account in self.accounts}
        server: ModelServer = servers.ModelServer(accounts, record, spent)
        await to_its_end(server.prepare)
        listener = socket.create_server(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = join_loop()
        try:
            await thread.portal.enter(server.open, listener)
        except BaseException:
            listener.close()
            leave_loop(thread)
            raise
        return server, thread, origin

    def _write(self, facts: Mapping[str, Any]) -> None:
        # Not a row of its session: what was spent is known for longer than that was said.
        self._runtime.records.append(REQUEST, dict(facts))

    def _announce(self, account: Account, refusal: BudgetSpentNow) -> None:
        """Write once for each period that the budget is spent, so that notifications say so."""
        if refusal.period not in account.announced:
            account.announced.add(refusal.period)
            self._runtime.records.append(BUDGET_SPENT, budget_spent(account.llm.name, str(refusal), refusal.period))
