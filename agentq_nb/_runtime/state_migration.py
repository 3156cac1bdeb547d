"""Load an actor's stored state into its current class, migrating it if it does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._core.ids import ActorId
from agentq_nb._runtime.state import Committed
from agentq_nb.errors import ValidationFailed

_ADVICE = "Give new fields defaults, or define migrate_state(old: dict) -> dict in the class."


def load_state(cls: type[Actor], actor: ActorId, encoded: bytes | None) -> Committed:
    """Return the stored state; if it does not fit, the result of the class's ``migrate_state(old)``.

    Raises ``actor.validation_error``, which says what to do. The stored state is kept then.
    """
    try:
        return Committed(cls.declared.state, actor, encoded)
    except ValidationFailed as unfit:
        migrate = getattr(cls, "migrate_state", None)
        if migrate is None:
            raise ValidationFailed(f"{unfit.message} {_ADVICE}", metadata=unfit.metadata) from None
    old = json.loads(encoded or b"null")
    try:
        made = json.dumps(migrate(old)).encode()
    except Exception as error:
        raise ValidationFailed(
            f"State of actor '{actor}' does not fit its type, and migrate_state raised {type(error).__name__}: "
            f"{error}. Mend migrate_state and deploy the class again; the state is kept as it was."
        ) from error
    try:
        migrated = Committed(cls.declared.state, actor, made)
    except ValidationFailed as unfit:
        text = (
            f"What migrate_state returned for actor '{actor}' does not fit either. {unfit.message} Mend "
            "migrate_state and "
            f"deploy the class again; the state is kept as it was."
        )
        raise ValidationFailed(text, metadata=unfit.metadata) from None
    migrated.fields = old
    return migrated


def check_deployment(new: type[Actor], old: type[Actor] | None, states: Mapping[ActorId, bytes]) -> None:
    """Raise ``actor.validation_error`` when an actor's state fits the old class but not the new one.

    A state that fits neither loses nothing, and must not keep the other actors from their new class.
    """
    if new.declared.state is None or old is None:
        return
    for actor, encoded in states.items():
        try:
            load_state(new, actor, encoded)
        except ValidationFailed as reason:
            if _fits(old, actor, encoded):
                raise ValidationFailed(
                    f"{new.__name__} was not deployed; the old code is still used. {reason.message}",
                    metadata=reason.metadata,
                ) from reason.__cause__


def _fits(cls: type[Any], actor: ActorId, encoded: bytes) -> bool:
    try:
        load_state(cls, actor, encoded)
    except ValidationFailed:
        return False
    return True
