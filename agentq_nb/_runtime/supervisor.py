"""Restart ``run`` when it raises, returns or is interrupted; and call scheduled actions when they are due."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Literal, TypeAlias

from agentq_nb._actor.actor import has_run
from agentq_nb._actor.message import INTERNAL_QUEUES, describe
from agentq_nb._brokers.messages import Commit, Delivery, Settlement, Take
from agentq_nb._core.interrupts import from_outside
from agentq_nb._policies.retry import Retry, backoff, is_given_up
from agentq_nb._runtime import actions, crons, schedule, settlement
from agentq_nb._runtime.activation import Activation
from agentq_nb._runtime.invocation import Call
from agentq_nb._runtime.provider_limits import limit_reached, limited, without_credit
from agentq_nb.errors import ActionNotFound, AgentqError, LeaseLost, Unavailable, ValidationFailed

RunState: TypeAlias = Literal["none", "running", "returned", "restarting"]

_SCHEDULED = Retry()


class Supervisor:
    """Starts ``run``, settles the messages it leaves, and restarts it; calls scheduled actions when they are due."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self.run_state: RunState = "none"
        self.begun = asyncio.Event()
        """Set when ``run`` has come to its first await, or there is none to wait for."""
        if not has_run(activation.cls):
            self.begun.set()
        self._restarts: float | None = None
        self._awaits_calls = False
        """Whether it waits until a scheduled call is due: it has asked the broker, and got none."""

    @property
    def restarts_at(self) -> float | None:
        """When ``run`` is restarted, in seconds since 1970; None while it runs."""
        clock = self._activation.clock
        return None if self._restarts is None else clock.time() + max(0.0, self._restarts - clock.monotonic())

    def is_idle(self) -> bool:
        """Whether ``run`` does nothing but wait for messages, and no request for a message or a call is under way."""
        if self._activation.in_flight.receivers or self._activation.deliveries.delayed or not self._awaits_calls:
            return False
        waits = self.run_state == "running" and self._activation.deliveries.waiting > 0
        return waits or self.run_state in ("none", "returned")

    # --- run ----------------------------------------------------------------------------------------------------------

    async def keep_running(self) -> None:
        """Run and restart ``run`` until the actor closes. Return at once if the class has no ``run``."""
        activation = self._activation
        if not has_run(activation.cls):
            return
        try:
            await self._keep_running()
        finally:
            self.begun.set()  # the actor may have closed before the first run

    async def _keep_running(self) -> None:
        activation = self._activation
        failures = 0
        while activation.closing is None:
            settled_before = activation.in_flight.settled
            call = Call(activation.actor_id, "run", "run")
            self.run_state, self._restarts = "running", None
            call_task = activation.perform(call, activation.run)
            # The task's first step is scheduled; what is scheduled now comes after it.
            asyncio.get_running_loop().call_soon(self.begun.set)
            error = await call_task.finished
            interrupted = any(receiver.interrupted for receiver in call.receivers)
            interrupted = self._settle(call, error) or interrupted
            await call.end()
            progress = activation.in_flight.settled > settled_before
            if activation.closing is not None:
                return
            if error is None and not interrupted:
                if not await self._returned(call):
                    return
                failures = 0 if progress else failures + 1
            else:
                failures = 0 if progress or interrupted else failures + 1
                if error is not None and not interrupted:
                    activation.failed("run", error)
            await self._wait_to_restart(backoff(failures))

    def _settle(self, call: Call, error: BaseException | None) -> bool:
        """Settle what the call still holds. Return whether a provider's limit ended it: that is no failure of ``run``."""
        commit, _ = self._activation.conclude(call, error)
        if commit.settlements:
            with suppress(LeaseLost, Unavailable):  # then the messages are delivered again wherever the actor runs next
                self._activation.lease.commit_soon(commit)
        return any(settlement.outcome == "limited" for settlement in commit.settlements)

    async def _returned(self, call: Call) -> bool:
        """Whether to restart ``run`` after it returned by itself: if it receives messages, once one is due."""
        activation = self._activation
        self.run_state = "returned"
        activation.changed()
        if not call.used_mailbox:
            return False
        try:
            await activation.lease.until_due(activation.cls.declared.unhandled, None)
        except (LeaseLost, Unavailable):
            return False
        return True

    async def _wait_to_restart(self, seconds: float) -> None:
        if seconds > 0:
            activation = self._activation
            self.run_state, self._restarts = "restarting", activation.clock.monotonic() + seconds
            activation.changed()
            await activation.clock.sleep(seconds)

    # --- scheduled calls ----------------------------------------------------------------------------------------------

    async def call_scheduled(self) -> None:
        """Call due actions concurrently until the actor closes."""
        activation = self._activation
        while activation.closing is None:
            try:
                deliveries = await activation.lease.turn(None, Take(INTERNAL_QUEUES, timeout=0))
                if not deliveries:
                    await self._until_called()
                    continue
            except (LeaseLost, Unavailable):
                return
            if activation.closing is not None:  # a call that a stop interrupted becomes due again at once
                self._write(settlement.released(deliveries))
                return
            for delivery in deliveries:
                activation.begin(self._call_one(delivery))

    async def _until_called(self) -> None:
        """Return when a scheduled call is due. Raises LeaseLost, Unavailable."""
        self._awaits_calls = True
        self._activation.changed()
        try:
            await self._activation.lease.until_due(INTERNAL_QUEUES, None, may_be_early=True)
        finally:
            self._awaits_calls = False

    async def _call_one(self, delivery: Delivery) -> None:
        began = self._activation.clock.time()
        if is_given_up(_SCHEDULED, delivery.crashes):
            error = settlement.crashed_too_often(delivery)
            self._write_end(delivery, Settlement(delivery, "dead", error=error), Commit(), began)
            return
        name, arguments = schedule.read(delivery)
        try:
            call, call_task = actions.begin(self._activation, name, arguments, {}, origin=delivery.origin)
        except (ActionNotFound, ValidationFailed) as error:
            self._write_end(delivery, self._ended(delivery, error), Commit(), began)
            return
        commit, error = self._activation.conclude(call, await call_task.finished)
        self._write_end(delivery, self._ended(delivery, error), commit, began)
        await call.end()

    def _ended(self, delivery: Delivery, error: BaseException | None) -> Settlement:
        if error is None:
            return Settlement(delivery, "completed")
        if isinstance(error, asyncio.CancelledError) or from_outside(error):
            return Settlement(delivery, "released", front=True)
        described: dict[str, Any] = describe(error)
        now = self._activation.clock.time()
        if (reached := limit_reached(error, now)) is not None:
            return limited(settlement.failed_attempt(delivery, _SCHEDULED, described), reached, now, None)
        advice = without_credit(error, now)
        if advice:
            described["message"] = f"{described['message']} {advice}"
        self._activation.note_error(described)
        hopeless = isinstance(error, ActionNotFound) or advice is not None
        return settlement.failed_attempt(delivery, _SCHEDULED, described, hopeless=hopeless)

    def _write_end(self, delivery: Delivery, ended: Settlement, commit: Commit, began: float) -> None:
        """Write the end of a scheduled call with what it changed and, of a cron schedule, its next call."""
        successor = None
        if ended.outcome not in ("again", "released", "limited"):
            try:
                successor = crons.successor(self._activation.actor_id, delivery, began, self._activation.clock.time())
            except ValidationFailed as error:  # this machine does not know its time zone
                self._activation.failed("cron", error)
        settlements = [*commit.settlements, ended]
        self._write(Commit(settlements, commit.state, commit.schedule, successor=successor))

    def _write(self, commit: Commit) -> None:
        try:
            self._activation.lease.commit_soon(commit)
        except AgentqError:
            return  # the lease is lost: the call is delivered again
