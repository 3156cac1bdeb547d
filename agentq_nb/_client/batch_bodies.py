"""The bodies of a batch as JSON, and its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentq_nb._actor.queue import Queue
from agentq_nb._actor.send_options import NO_OPTIONS, StoredOptions, with_ttl
from agentq_nb._brokers.batches import NewBatch
from agentq_nb._core.ids import ActorId, mint_id
from agentq_nb._core.table_rows import rows_of
from agentq_nb._core.time_slice import Slices
from agentq_nb.errors import MessageTooLarge, ValidationFailed

_LONGEST_NAME = 200
_STEP = 50


async def new_batch(
    declared: Queue[Any, Any],
    actor: ActorId,
    bodies: Any,
    name: object = None,
    options: StoredOptions = NO_OPTIONS,
    *,
    facts: Mapping[str, Any] | None = None,
    again: bool = False,
    whole: bool = False,
) -> NewBatch:
    """Return the batch to send. Raises ``actor.validation_error`` and ``queue.message_too_large``."""
    checked = made_up_name(declared.name) if name is None else checked_name(name)
    encoded = await encode_bodies(declared, actor, bodies)
    return NewBatch(
        name=checked,
        actor=actor,
        queue=declared.name,
        bodies=encoded,
        options=with_ttl(options, declared.ttl),
        max_size=declared.max_size,
        max_bytes=declared.max_bytes,
        facts=facts or {},
        again=again,
        whole=whole,
    )


async def encode_bodies(declared: Queue[Any, Any], actor: ActorId, bodies: Any) -> list[bytes]:
    """Return each body as JSON, without blocking the event loop for long.

    Raises ``actor.validation_error``, which names the first body that does not fit, ``queue.message_too_large``, and
    what an iterable raises.
    """
    slices, encoded = Slices(), list[bytes]()
    dump, largest = declared.body.dump, declared.largest_body
    for number, body in enumerate(rows_of(bodies, "Bodies")):
        text = dump(body, lambda: f"Body {len(encoded)} for queue '{declared.name}' of actor '{actor}'")
        if len(text) > largest:
            raise MessageTooLarge(actor, declared.name, len(text), declared.max_message_bytes, declared.max_bytes)
        encoded.append(text)
        if not number % _STEP:
            await slices.pause()
    if not encoded:
        raise ValidationFailed(
            f"There is nothing to send to queue '{declared.name}' of '{actor}': no items were given."
        )
    return encoded


def made_up_name(queue: str) -> str:
    """Return a new name for a batch of this queue."""
    return f"{queue}-{mint_id()[:14]}"


def checked_name(name: object) -> str:
    """Return the name of a batch as it is stored. Raises ``actor.validation_error``."""
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValidationFailed(
            f"The name of a batch is a text of 1 to {_LONGEST_NAME} printable characters, such as 'reviews-v1', not "
            f"{name!r:.100}."
        )
    return name
