"""An actor's state: what is committed, the working copy of a message, and how the two come together.

``Committed`` holds the fields as they are on disk, and one shared object that actions, hooks and ``run`` outside a
message work on. A message's handler works on a ``WorkingCopy``; settling merges the top-level fields it changed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from agentq_nb._core.codec import Schema
from agentq_nb.errors import StateConflict, StateMissing, ValidationFailed

Fields = dict[str, Any]


class Committed:
    """The state of one actor in memory. ``encoded`` None: it was never written.

    Raises ``actor.validation_error`` when what was written does not fit the type any more.
    """

    def __init__(self, schema: Schema[Any] | None, actor_id: str, encoded: bytes | None) -> None:
        self.schema = schema
        self.actor_id = actor_id
        self.fields: Fields = {}
        self._shared: Any = None
        if schema is not None and encoded not in (None, b"null"):
            self._shared = schema.load(encoded, self.what)
            self.fields = json.loads(schema.encode(self._shared, self.what))

    @property
    def what(self) -> str:
        return f"State of actor '{self.actor_id}'"

    @property
    def present(self) -> bool:
        """Whether there is a state to work on."""
        return self._shared is not None

    @property
    def shared(self) -> Any:
        """The object that everything outside a message works on. Raises ``actor.state_missing``."""
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
        """``self.state = value`` outside a message."""
        if self.schema is None:
            raise StateMissing(
                f"Actor '{self.actor_id}' declares no state. Annotate it in the class: state: YourModel."
            )
        self._shared = self.schema.validate(value, self.what)

    def begin(self) -> None:
        """Give a new actor the first value its type makes by itself, if it does."""
        if self.schema is None or self._shared is not None:
            return
        try:
            self._shared = self.schema.declared()
        except (TypeError, ValueError):
            self._shared = None

    def copy(self) -> Any:
        """A separate object equal to what is committed."""
        if self.schema is None or not self.fields:
            return None if self._shared is None else self.encode_and_load(self._shared)
        return self.schema.load(json.dumps(self.fields).encode(), self.what)

    def encode_and_load(self, value: Any) -> Any:
        assert self.schema is not None
        return self.schema.load(self.schema.encode(value, self.what), self.what)

    def fields_of(self, value: Any) -> Fields:
        """The JSON of a state object by top-level field. Raises ``actor.validation_error`` when it is not valid."""
        assert self.schema is not None
        encoded = self.schema.encode(value, self.what)
        self.schema.load(encoded, self.what)
        fields = json.loads(encoded)
        if not isinstance(fields, dict):
            raise ValidationFailed(f"{self.what} must be a model or dataclass that becomes a JSON object.")
        return fields  # type: ignore[return-value]

    def unsaved(self, since: Fields | None = None) -> Fields:
        """The shared object's fields that differ from what is committed, and from ``since`` if that is given."""
        if self._shared is None:
            return {}
        changed = _changed(self.fields_of(self._shared), self.fields)
        return changed if since is None else _changed(changed, since)

    def take(self, changes: Fields, *, from_copy: bool) -> bytes:
        """Merge changed fields; the whole state as JSON, to be written. A copy's changes go into the shared object."""
        self.fields = {**self.fields, **changes}
        encoded = json.dumps(self.fields, ensure_ascii=False, separators=(",", ":")).encode()
        if from_copy and self._shared is not None:
            assert self.schema is not None
            fresh = self.schema.load(encoded, self.what)
            try:
                for name in changes:
                    setattr(self._shared, name, getattr(fresh, name))
            except (AttributeError, ValueError, TypeError):  # a frozen type: then the object itself is replaced
                self._shared = fresh
        return encoded

    def restore(self, before: Fields, others: Collection[Fields]) -> None:
        """Take back what a failed action changed in the shared object and nobody has committed.

        :param before: the fields when the action first touched them.
        :param others: the same of the actions still at work: what they have changed since, or may have, stays.
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
    """The state as one message's handler sees it. Nobody else sees it before the message settles."""

    def __init__(self, committed: Committed) -> None:
        self._committed = committed
        self._base = dict(committed.fields)
        self.value = committed.copy() if committed.present else committed.shared

    def replace(self, value: Any) -> None:
        """``self.state = value`` while a message is handled."""
        schema = self._committed.schema
        assert schema is not None
        self.value = schema.validate(value, self._committed.what)

    def commit(self) -> bytes | None:
        """Merge into the committed state; the whole state to write, or None when nothing was changed.

        Raises ``actor.state_conflict`` when an action changed one of the same fields meanwhile, and
        ``actor.validation_error``; nothing is merged then.
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
