"""An actor's state: the committed fields, a handler's working copy, and merging the two.

``Committed`` holds the fields as they are on disk, and one shared object that actions, hooks and ``run`` outside a
message use. A message's handler uses a ``WorkingCopy``; settling merges the top-level fields that it changed.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection
from typing import Any

from agentq_nb._core.codec import Schema
from agentq_nb._runtime.read_only import read_only
from agentq_nb.errors import StateConflict, StateMissing, ValidationFailed

Fields = dict[str, Any]


class Committed:
    """The state of one actor in memory. ``encoded`` is None if it was never written.

    Raises ``actor.validation_error`` when the stored state no longer fits its type.
    """

    def __init__(self, schema: Schema[Any] | None, actor_id: str, encoded: bytes | None) -> None:
        self.schema = schema
        self.actor_id = actor_id
        self.fields: Fields = {}
        self._shared: Any = None
        self._read_only: tuple[Fields, Any] | None = None
        if schema is not None and encoded not in (None, b"null"):
            self._shared = schema.load(encoded, self.what)
            self.fields = json.loads(schema.encode(self._shared, self.what))

    @property
    def what(self) -> str:
        return f"State of actor '{self.actor_id}'"

    @property
    def present(self) -> bool:
        """Whether the state has a value."""
        return self._shared is not None

    @property
    def shared(self) -> Any:
        """The object that all code outside a message uses. Raises ``actor.state_missing``."""
        if self.schema is None:
            raise StateMissing(
                f"Actor '{self.actor_id}' declares no state. Annotate it in the class: state: YourModel."
            )
        if self._shared is None:
            raise StateMissing(
                f"State of actor '{self.actor_id}' has no first value: give each field of its type a default, "
                f"or set self.state = ... in on_create."
            )
        return self._shared

    def replace(self, value: Any) -> None:
        """Set the state outside a message: ``self.state = value``."""
        if self.schema is None:
            raise StateMissing(
                f"Actor '{self.actor_id}' declares no state. Annotate it in the class: state: YourModel."
            )
        self._shared = self.schema.validate(value, self.what)

    def begin(self) -> None:
        """Give a new actor its type's default value, if the type has one."""
        if self.schema is None or self._shared is not None:
            return
        try:
            self._shared = self.schema.declared()
        except (TypeError, ValueError):
            self._shared = None

    def copy(self) -> Any:
        """Return a separate object that equals the committed state."""
        if self.schema is None or not self.fields:
            return None if self._shared is None else self.encode_and_load(self._shared)
        return self.schema.load(json.dumps(self.fields).encode(), self.what)

    def read_only(self) -> Any:
        """Return an object that equals the committed state and cannot be changed. Raises ``actor.state_missing``."""
        if not self.present:
            return self.shared
        if self._read_only is None or self._read_only[0] is not self.fields:
            self._read_only = self.fields, read_only(self.copy())
        return self._read_only[1]

    def update(self, change: Callable[[Any], Any]) -> bytes | None:
        """Apply ``change`` to the committed state, and return the whole state to write, or None if nothing was changed.

        ``change`` changes the state it is given, or returns another. Where an action that still runs has changed the
        same fields, it is applied to the action's changes too, so neither overwrites the other. Raises what it raises,
        ``actor.state_missing`` and ``actor.validation_error``, without changing anything.
        """
        changes = _changed(
            self.fields_of(self.changed_by(change, self.copy() if self.present else self.shared)), self.fields
        )
        if not changes:
            return None
        ahead: Any = None
        both = changes.keys() & self.unsaved().keys()
        if both:
            ahead = self.changed_by(change, self.encode_and_load(self._shared))
            self.fields_of(ahead)
        encoded = self.take(changes, from_copy=True)
        for name in both:
            setattr(self._shared, name, getattr(ahead, name))
        return encoded

    def changed_by(self, change: Callable[[Any], Any], value: Any) -> Any:
        """Return ``value`` as ``change`` leaves it."""
        assert self.schema is not None
        result = change(value)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise ValidationFailed(f"{self.what}: update=f takes a plain function f(state), not one that is awaited.")
        return value if result is None else self.schema.validate(result, self.what)

    def encode_and_load(self, value: Any) -> Any:
        assert self.schema is not None
        return self.schema.load(self.schema.encode(value, self.what), self.what)

    def fields_of(self, value: Any) -> Fields:
        """Return a state object's top-level fields as JSON values. Raises ``actor.validation_error``."""
        assert self.schema is not None
        encoded = self.schema.encode(value, self.what)
        self.schema.load(encoded, self.what)
        fields = json.loads(encoded)
        if not isinstance(fields, dict):
            raise ValidationFailed(f"{self.what} must be a model or dataclass that becomes a JSON object.")
        return fields  # type: ignore[return-value]

    def unsaved(self, since: Fields | None = None) -> Fields:
        """Return the shared object's fields that differ from the committed ones, and from ``since`` if given."""
        if self._shared is None:
            return {}
        changed = _changed(self.fields_of(self._shared), self.fields)
        return changed if since is None else _changed(changed, since)

    def take(self, changes: Fields, *, from_copy: bool) -> bytes:
        """Merge changed fields and return the whole state as JSON, to be written.

        ``from_copy``: the changes come from a working copy and are also set on the shared object.
        """
        self.fields = {**self.fields, **changes}
        encoded = json.dumps(self.fields, ensure_ascii=False, separators=(",", ":")).encode()
        if from_copy and self._shared is not None:
            assert self.schema is not None
            fresh = self.schema.load(encoded, self.what)
            try:
                for name in changes:
                    setattr(self._shared, name, getattr(fresh, name))
            except (AttributeError, ValueError, TypeError):  # a frozen type
                self._shared = fresh
        return encoded

    def restore(self, before: Fields, others: Collection[Fields]) -> None:
        """Undo a failed action's changes to the shared object that are not committed.

        :param before: the fields when the action first touched them.
        :param others: the same for the actions that still run: fields that they may have changed since are kept.
        """
        if self.schema is None or self._shared is None:
            return
        if not self.fields:
            self._shared = None
            self.begin()
            return
        committed = self.copy()
        try:
            now = self.fields_of(self._shared)
            for name in _changed(_changed(now, self.fields), before):
                if all(name in other and other[name] == now[name] for other in others):
                    setattr(self._shared, name, getattr(committed, name))
        except (ValidationFailed, AttributeError, ValueError, TypeError):
            self._shared = committed


class WorkingCopy:
    """The state as one message's handler sees it; its changes are visible elsewhere once the message settles."""

    def __init__(self, committed: Committed) -> None:
        self._committed = committed
        self._base = dict(committed.fields)
        self.value = committed.copy() if committed.present else committed.shared

    def replace(self, value: Any) -> None:
        """Set the state while a message is handled: ``self.state = value``."""
        schema = self._committed.schema
        assert schema is not None
        self.value = schema.validate(value, self._committed.what)

    def update(self, change: Callable[[Any], Any]) -> None:
        """Apply ``change`` to the copy."""
        self.value = self._committed.changed_by(change, self.value)

    def commit(self) -> bytes | None:
        """Merge into the committed state and return the whole state to write, or None if nothing was changed.

        Raises ``actor.state_conflict`` when an action changed one of the same fields meanwhile, and
        ``actor.validation_error``, without merging anything.
        """
        changes = _changed(self._committed.fields_of(self.value), self._base)
        if not changes:
            return None
        now = self._committed.fields
        touched = {name for name in changes if now.get(name) != self._base.get(name)}
        touched |= changes.keys() & self._committed.unsaved().keys()
        if touched:
            raise StateConflict(self._committed.actor_id, sorted(touched))
        encoded = self._committed.take(changes, from_copy=True)
        self._base = dict(self._committed.fields)
        return encoded


def _changed(fields: Fields, base: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name not in base or base[name] != value}
