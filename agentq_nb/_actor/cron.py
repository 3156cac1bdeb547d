"""The ``@cron`` decorator: an action that is called at the times of a cron expression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from agentq_nb._actor.action import Action, action, is_marked
from agentq_nb._policies.cron import Cron, checked

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = "__agentq_cron__"


def cron(expression: str, *, tz: str | None = None) -> Callable[[Function], Function]:
    """Call an action of the actor at the times of a cron expression, as long as the class has it.

        class Reporter(Actor):
            @cron("0 9 * * mon-fri", tz="Europe/Berlin")
            @action
            async def report(self) -> None: ...

        await create_client().reporter.get_or_create("main").report()   # an actor runs its crons once it exists

    An actor's crons start when the actor is created. A handle alone does not create it: its first message or call does,
    and so does ``await client.reporter.create("main")``. From then on the next time of each actor of the class is stored.
    It wakes a sleeping actor, and survives restarts and crashes. If times were missed because no kernel ran, one call is
    made as soon as a kernel runs again. Calls never overlap: if times passed while a call was running, one call follows,
    however many there were. ``@cron`` makes the method an action, even without ``@action``. Its parameters need defaults.

    In ``self.schedule.list()`` the schedule has the name of the action. If you define the class again with another
    expression, the schedule changes; without ``@cron``, it ends. ``self.schedule.cron`` makes schedules at run time.

    :param expression: minute, hour, day of the month, month, day of the week. ``*/15 * * * *``: every 15 minutes;
        ``0 9 1 * *``: at 9:00 on the first of each month. If both a day of the month and a day of the week are given, it
        runs on days that match either.
    :param tz: a time zone such as ``"Europe/Berlin"``; None: the local time of the machine. When daylight saving time
        begins, a time in the skipped hour runs right after the change. When it ends, a time that occurs twice runs only
        the first time, but expressions that match every hour run both times.

    Raises ``actor.validation_error`` for an invalid expression or an unknown time zone.
    """
    schedule = checked(expression, tz)

    def mark(function: Function) -> Function:
        if not callable(function) or not hasattr(function, "__code__"):
            raise TypeError("@cron marks a method; write it above @action, without calling the method.")
        if hasattr(function, _MARK):
            raise TypeError(
                f"{function.__name__} has two @cron: give one expression with commas, or write a second action."
            )
        setattr(function, _MARK, schedule)
        return function if is_marked(function) else action(function)

    return mark


def find_crons(cls: type, actions: Mapping[str, Action]) -> dict[str, Cron]:
    """Return the schedules of a class's actions, by the action's name. Raises TypeError for parameters to be given."""
    found: dict[str, Cron] = {}
    for name, declared in actions.items():
        schedule = getattr(declared.function, _MARK, None)
        if schedule is None:
            continue
        try:
            declared.signature.bind()
        except TypeError as error:
            raise TypeError(
                f"{cls.__name__}.{name}: @cron calls it without arguments, but: {error}. Give each parameter a default, "
                "or pass arguments by self.schedule.cron(name, expression, action, *args)."
            ) from None
        found[name] = schedule
    return found
