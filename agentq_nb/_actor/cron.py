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

    A handle alone creates no actor: the first message or call does, once; ``handle.create`` does nothing else. From
    then on the times of each actor of the class are stored: they wake a sleeping actor, and survive restarts and
    crashes. Times that were missed because no kernel ran lead to one call, as soon as one runs again. A call that takes
    longer than until the next time is not overlapped: if times have passed meanwhile, one call follows.
    ``@cron`` makes the method an action if ``@action`` does not. Its parameters need defaults.

    The name of the schedule in ``self.schedule.list()`` is the action's. Defining the class again with another
    expression changes it, and without ``@cron`` ends it. For schedules made while running, see ``self.schedule.cron``.

    :param expression: minute, hour, day of the month, month, day of the week. ``*/15 * * * *``: every 15 minutes;
        ``0 9 1 * *``: at 9:00 on the first of each month. If both kinds of days are given, either will do.
    :param tz: a time zone such as ``"Europe/Berlin"``; None: the local time of the machine. When its clocks change, a
        time that they skip runs when they have changed, and a time that comes twice runs the first time. Expressions
        for every hour run in both of two equal hours.

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
