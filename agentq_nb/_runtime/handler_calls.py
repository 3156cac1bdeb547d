"""Take the messages of queues that have handlers, and call the handler of each in a task of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

from agentq_nb._actor.handler import Handler
from agentq_nb._actor.message import Message
from agentq_nb._brokers.messages import Commit
from agentq_nb._policies.retry import backoff
from agentq_nb._runtime.activation import Activation
from agentq_nb._runtime.call_task import CallTask
from agentq_nb._runtime.invocation import Call, Receiver, current_receiver
from agentq_nb._runtime.user_threads import (
    Home,
    Overdue,
    SettlerFromThreads,
    in_user_thread,
    note_overdue,
    overdue_threads,
    when_ended,
)
from agentq_nb.errors import Aborted, AlreadyCompleted, LeaseLost, Unavailable


def dispatchers(activation: Activation) -> list[Dispatcher]:
    """Return what calls the handlers of an actor.

    All queues that are handled one by one share a dispatcher, so that one message at a time is handled; each queue with
    ``concurrency`` has its own.
    """
    queues = activation.queues
    one_by_one = frozenset(name for name in activation.handlers if queues[name].concurrency == 1)
    several = [frozenset([name]) for name in activation.handlers if queues[name].concurrency > 1]
    return [Dispatcher(activation, names) for names in (one_by_one, *several) if names]


class Dispatcher:
    """Takes messages of some queues while there is room, and settles each when its handler has ended."""

    def __init__(self, activation: Activation, names: frozenset[str]) -> None:
        self._activation = activation
        self._names = names

    async def keep_calling(self) -> None:
        """Call handlers until the actor closes."""
        activation = self._activation
        failures = 0
        while activation.closing is None:
            receiver = Receiver(activation.actor_id, Call(activation.actor_id, "handler", ""), iterates=True)
            try:
                (message,) = await activation.deliveries.deliver(receiver, self._names, 1, None, True)
            except (Aborted, LeaseLost, Unavailable):
                return
            except Exception as error:  # a type of the user's that raises while it loads a body
                failures += 1
                activation.failed("taking a message", error)
                await activation.clock.sleep(backoff(failures))
                continue
            failures = 0
            self._begin(receiver, message)

    def _begin(self, receiver: Receiver, message: Message[Any, Any]) -> None:
        activation, call = self._activation, receiver.call
        handler = activation.handlers[message.queue]
        call.name, call.origin = handler.name, receiver.held[message.id][1].origin
        receiver.stays = True
        call_task = activation.perform(call, lambda: _invoke(activation, receiver, handler, message))
        receiver.task = call_task.task
        call_task.finished.add_done_callback(lambda _: self._ended(receiver, message, call_task))

    def _ended(self, receiver: Receiver, message: Message[Any, Any], call_task: CallTask) -> None:
        """Settle the message. Never waits, so that it is settled before anything that follows the handler's end."""
        activation, call = self._activation, receiver.call
        unsettled = bool(receiver.held)
        error = call_task.finished.result()
        if error is None:
            receiver.returned = (call_task.result,)
        thread = call.thread
        overdue = thread is not None and not thread.done()
        if thread is not None and overdue:
            keep_place(activation, Overdue(receiver, message.id, thread))
        commit, error = activation.conclude(call, error)
        if not overdue:
            leave(activation, receiver)  # first, so that what follows in the queue starts in the same write
        self._settle(commit)
        if not unsettled:
            self._note_what_is_dropped(receiver, message, error)
        call.end_soon()

    def _settle(self, commit: Commit) -> None:
        for settled in commit.settlements:
            if settled.error is not None:
                self._activation.note_error(settled.error)
        if commit.settlements or commit.schedule:
            with suppress(LeaseLost, Unavailable):  # the message is delivered again wherever the actor runs next
                self._activation.lease.commit_soon(commit)

    def _note_what_is_dropped(
        self, receiver: Receiver, message: Message[Any, Any], error: BaseException | None
    ) -> None:
        """Report what a handler raised or returned after it had settled its message: it changes nothing any more."""
        if receiver.interrupted is not None or receiver.call.stopped:
            return
        returned = receiver.returned[0] if receiver.returned is not None else None
        if error is None and returned is not None:
            error = AlreadyCompleted(message.id, f"so what its handler returned, {returned!r:.100}, is dropped")
        if error is not None:
            self._activation.failed(f"handler {receiver.call.name}", error)


def keep_places(activation: Activation) -> None:
    """Keep the places of threads that an earlier activation of the actor has left."""
    for overdue in overdue_threads(_home(activation)):
        _count(activation, overdue)


def keep_place(activation: Activation, overdue: Overdue) -> None:
    """Keep the place of a thread that outlives its attempt, in this activation and in later ones of this process."""
    note_overdue(_home(activation), overdue)
    _count(activation, overdue)


def leave(activation: Activation, receiver: Receiver) -> None:
    """Give up the places of a receiver whose handler has ended."""
    receiver.stays = False
    activation.in_flight.leave(receiver)
    activation.changed()


def _home(activation: Activation) -> Home:
    return activation.host.workspaces, activation.actor_id


def _count(activation: Activation, overdue: Overdue) -> None:
    """Count the thread as a receiver of its queues, and hold back the next attempt, until the thread has ended."""
    activation.overdue[overdue.message] = overdue.receiver
    activation.in_flight.keep(overdue.receiver)
    allow = activation.lease.withhold(overdue.message)

    def ended() -> None:
        activation.overdue.pop(overdue.message, None)
        allow()
        leave(activation, overdue.receiver)

    when_ended(overdue, ended)


def _invoke(activation: Activation, receiver: Receiver, handler: Handler, message: Message[Any, Any]) -> Any:
    """Call the handler; runs in its own task."""
    current_receiver.set(receiver)
    if handler.is_async:
        return handler.call(activation.instance, message)
    settler = SettlerFromThreads(activation.in_flight, asyncio.get_running_loop())
    message._settle_through(settler)  # pyright: ignore[reportPrivateUsage]  # private to the package
    return in_user_thread(receiver.call, partial(handler.call, activation.instance, message))
