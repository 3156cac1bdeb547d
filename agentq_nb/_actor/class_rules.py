"""Checks of an actor class: likely mistakes that would have no effect are refused, with the correct line."""

from __future__ import annotations

import asyncio
import dis
import inspect
import queue
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from types import CodeType, FrameType, FunctionType
from typing import Any, ClassVar, Final, cast, get_origin

from agentq_nb._actor.action import is_marked
from agentq_nb._actor.handler import is_handler
from agentq_nb._actor.queue import Queue

HOOKS: Mapping[str, tuple[str, ...]] = {
    "run": (),
    "on_create": ("input",),
    "on_wake": (),
    "on_sleep": (),
    "on_destroy": (),
}
"""The hooks that a subclass may define, with their parameters after ``self``."""

_OTHER_NAMES = {
    **dict.fromkeys(("on_start", "on_startup", "on_wakeup", "on_awake", "on_load", "on_activate"), "on_wake"),
    **dict.fromkeys(("on_stop", "on_shutdown", "on_exit", "on_close", "on_deactivate"), "on_sleep"),
    **dict.fromkeys(("on_init", "on_new"), "on_create"),
    **dict.fromkeys(("on_delete", "on_remove"), "on_destroy"),
}
"""Names of the hooks in other frameworks, by ours."""

_HANDLERS = frozenset(
    ("main", "loop", "handle", "handle_message", "handler", "process", "receive", "on_message", "on_receive", "on_task")
)
"""Names of message handlers in other frameworks."""


def check_class(cls: type, base: type, definer: FrameType) -> None:
    """Raise TypeError for a declaration that would have no effect, or another than it seems to have.

    :param base: ``Actor``, whose own attributes must not be hidden.
    :param definer: the frame that contains the class statement.
    """
    own = dict(vars(cls))
    for name, value in own.items():
        if name in HOOKS:
            _check_hook(cls, name, value)
        elif not name.startswith("_") and name != "declared":
            _check_attribute(cls, base, name, value)
    _check_names(cls, base, own)
    _check_annotations(cls, own, definer)
    _check_bodies(cls, own)
    _refuse_twice(cls, own, definer)


def check_inherited(cls: type, names: Iterable[str], kind: str, own: Iterable[str]) -> None:
    """Raise TypeError where the class overrides an inherited queue or action with something else."""
    for name in set(names).intersection(vars(cls)).difference(own):
        base = next(base.__name__ for base in cls.__mro__[1:] if name in vars(base))
        way = "mark it with @action too" if kind == "action" else "rename it"
        raise TypeError(f"{cls.__name__}.{name} hides the {kind} '{name}' of {base}: {way}.")


# --- hooks ------------------------------------------------------------------------------------------------------------


def _check_hook(cls: type, name: str, value: Any) -> None:
    right = f"async def {name}({', '.join(('self', *HOOKS[name]))})"
    advice = f"{cls.__name__}.{name}: write {right}:"
    if isinstance(value, Queue) or is_marked(value):
        return  # refused together with other reserved names
    function = _inner(value) or value
    if not callable(function):
        raise TypeError(advice)
    code = inspect.unwrap(function)
    if inspect.isasyncgenfunction(code) or inspect.isgeneratorfunction(code):
        raise TypeError(f"{cls.__name__}.{name} must not yield: nothing would run it. Write {right}: without yield.")
    if name == "run" and not inspect.iscoroutinefunction(code) and isinstance(code, FunctionType):
        raise TypeError(f"{advice} a plain function cannot wait for messages.")
    arguments = (None,) * len(HOOKS[name])
    if not isinstance(value, staticmethod):
        arguments = (None, *arguments)
    if isinstance(code, FunctionType) and code is function and not _takes(code, arguments):
        raise TypeError(f"{advice} it is called with {' and '.join(HOOKS[name]) or 'nothing'} besides self.")


def _takes(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True


def _check_names(cls: type, actor: type, own: Mapping[str, Any]) -> None:
    """Raise TypeError for methods that look like hooks or handlers but would never be called."""
    called = {name for value in own.values() if isinstance(value, FunctionType) for name in value.__code__.co_names}
    queues = [] if _has_run(cls, actor) else [name for name, value in own.items() if isinstance(value, Queue)]
    if any(map(is_handler, own.values())):
        queues = []
    for name, value in own.items():
        if not isinstance(value, FunctionType) or name.startswith("_") or name in HOOKS:
            continue
        if name in called or is_marked(value) or is_handler(value):
            continue
        if (meant := _meant(name)) is not None:
            raise TypeError(
                f"{cls.__name__}.{name}: actors have no hook of this name, so nothing would call it. '{meant}' is meant? "
                f"They have {', '.join(HOOKS)}; a helper of yours that nothing here calls yet needs another name."
            )
        if queues and name in _HANDLERS:
            raise TypeError(
                f"{cls.__name__}.{name}: nothing would call it. Write @{queues[0]}.handler above it, with the parameters "
                "(self, body); or take messages in a loop: async def run(self):  async for message in self.queue.iter(): …"
            )


def _meant(name: str) -> str | None:
    lowered = name.lower()
    for hook in HOOKS:
        if lowered.replace("_", "") == hook.replace("_", ""):
            return hook
    if lowered in _OTHER_NAMES:
        return _OTHER_NAMES[lowered]
    if not lowered.startswith("on_"):
        return None
    return next(iter(get_close_matches(lowered, [hook for hook in HOOKS if hook != "run"], 1, 0.85)), None)


def _has_run(cls: type, actor: type) -> bool:
    return any("run" in vars(base) for base in cls.__mro__ if base is not actor)


# --- attributes -------------------------------------------------------------------------------------------------------


def _check_attribute(cls: type, base: type, name: str, value: Any) -> None:
    if isinstance(value, Queue):
        return
    if (declared := _meant_queue(value)) is not None:
        raise TypeError(f"{cls.__name__}.{name} is no queue yet: write {name} = {declared}.")
    if _holds_queues(value):
        raise TypeError(f"{cls.__name__}.{name}: give each queue a name of its own, as in {name} = Queue(dict).")
    if name == "state":
        if not inspect.get_annotations(cls).get("state"):
            raise TypeError(
                f"{cls.__name__}.state is kept only when its type is declared: write state: Counter = Counter(), where "
                "Counter is a pydantic model or a dataclass."
            )
        return
    inner = _inner(value)
    if inner is not None and is_marked(inner):
        raise TypeError(f"{cls.__name__}.{name}: @action marks plain methods: write @action on def {name}(self, …).")
    if is_marked(value):
        _check_action(cls, name, value)
    elif hasattr(base, name) or name in base.__annotations__:
        raise TypeError(f"{cls.__name__}.{name} hides '{name}', which every actor has already: rename it.")


def _meant_queue(value: Any) -> str | None:
    """Return the declaration that was probably meant, if ``value`` looks like a queue."""
    if get_origin(value) is Queue:
        body, reply = (*value.__args__, Any)[:2]
        return f"Queue({_named(body)}{'' if reply is Any else f', reply={_named(reply)}'})"
    if value is Queue or isinstance(value, (asyncio.Queue, queue.Queue, queue.SimpleQueue)):
        return "Queue(dict), with agentq_nb's Queue and the type of its messages"
    return None


def _named(declared: Any) -> str:
    return declared.__name__ if isinstance(declared, type) else str(declared)


def _holds_queues(value: Any) -> bool:
    if not isinstance(value, (list, tuple, dict)):
        return False
    items: Iterable[Any] = (
        cast("dict[Any, Any]", value).values() if isinstance(value, dict) else cast("list[Any]", value)
    )
    return any(isinstance(item, Queue) for item in items)


def _inner(value: Any) -> Any:
    for kind, part in ((staticmethod, "__func__"), (classmethod, "__func__"), (property, "fget")):
        if isinstance(value, kind):
            return getattr(cast(object, value), part)
    return None


def _check_action(cls: type, name: str, function: Any) -> None:
    if isinstance(function, (staticmethod, classmethod)):
        raise TypeError(f"{cls.__name__}.{name}: @action marks plain methods: write @action on def {name}(self, …).")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(
            f"{cls.__name__}.{name} must not yield: an action returns one value. Tell more meanwhile with self.broadcast."
        )
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise TypeError(f"{cls.__name__}.{name}: an action is a method: write def {name}(self).")


def _check_annotations(cls: type, own: Mapping[str, Any], definer: FrameType) -> None:
    """Raise TypeError for a queue that is annotated and not assigned: there would be none."""
    for name, annotation in inspect.get_annotations(cls).items():
        if name in own or any(isinstance(vars(base).get(name), Queue) for base in cls.__mro__[1:]):
            continue
        if isinstance(annotation, str):
            annotation = _evaluated(annotation, definer)
        while get_origin(annotation) in (ClassVar, Final):
            annotation = annotation.__args__[0]
        if isinstance(annotation, str):
            declared = f"Queue({annotation[len('Queue[') : -1]})" if annotation.startswith("Queue[") else None
        elif isinstance(annotation, Queue):
            declared = f"Queue({_named(cast('Queue[Any, Any]', annotation).body.declared)})"
        else:
            declared = _meant_queue(annotation)
        if declared is None:
            continue
        if any(name in vars(base) for base in cls.__mro__[1:]):
            raise TypeError(
                f"{cls.__name__}.{name} is only annotated, so there is no queue, and every actor has a '{name}' already: "
                f"write tasks = {declared}, with a name of its own."
            )
        raise TypeError(f"{cls.__name__}.{name} is only annotated, so there is no queue: write {name} = {declared}.")


def _evaluated(annotation: str, definer: FrameType) -> Any:
    """Return what a postponed annotation means; its text where a name in it is not known yet."""
    meant: Any = annotation
    try:
        while isinstance(meant, str):
            meant = eval(meant, {**definer.f_globals, **definer.f_locals})
    except Exception:
        return annotation
    return meant


# --- code -------------------------------------------------------------------------------------------------------------


def _check_bodies(cls: type, own: Mapping[str, Any]) -> None:
    """Raise TypeError for queues made inside a method: senders could not find them."""
    for name, value in own.items():
        if isinstance(value, FunctionType) and _makes_queues(value):
            raise TypeError(
                f"{cls.__name__}.{name} makes a Queue: queues are declared in the class's body, where senders find them: "
                f"class {cls.__name__}(Actor):  tasks = Queue(dict)"
            )


def _makes_queues(function: FunctionType) -> bool:
    code = function.__code__
    return (
        "Queue" in code.co_names
        and function.__globals__.get("Queue") is Queue
        and any(line.opname == "LOAD_GLOBAL" and line.argval == "Queue" for line in dis.get_instructions(code))
    )


def _refuse_twice(cls: type, own: Mapping[str, Any], definer: FrameType) -> None:
    """Raise TypeError for two queues, actions or hooks of one name: the first would be lost silently."""
    body = _body(cls, definer)
    if body is None:
        return
    seen: set[str] = set()
    for instruction in dis.get_instructions(body):
        if "JUMP" in instruction.opname:
            return  # in separate branches both definitions may be right
        if instruction.opname != "STORE_NAME":
            continue
        name = instruction.argval
        if name in seen and (name in HOOKS or isinstance(own.get(name), (Queue, FunctionType))):
            raise TypeError(
                f"{cls.__name__}.{name} is defined twice, and only the last one would be there: rename one."
            )
        seen.add(name)


def _body(cls: type, definer: FrameType) -> CodeType | None:
    """Return the code of the class body; None where another ``__init_subclass__`` is in between."""
    found = [
        constant
        for constant in definer.f_code.co_consts
        if isinstance(constant, CodeType) and constant.co_name == cls.__name__ and "__module__" in constant.co_names
    ]
    return found[0] if len(found) == 1 else None
