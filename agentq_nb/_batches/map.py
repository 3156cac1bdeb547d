"""``map``: call a function, or send a prompt, for each of many items; what is done is not done again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentq_nb._actor.queue import Queue
from agentq_nb._batches.agent_work import BRANCH_FIELDS, AgentWork, is_agent
from agentq_nb._batches.map_worker import QUEUE, Work, actor_name_of, is_same_work, worker_class
from agentq_nb._batches.mapped_function import mapped_function
from agentq_nb._brokers.batches import Batches, NewBatch, StoredBatch
from agentq_nb._client.batch import Batch
from agentq_nb._client.batch_bodies import checked_name, encode_bodies
from agentq_nb._core import number_options
from agentq_nb._core.ids import actor_id
from agentq_nb._core.programs import kernel_of_shell
from agentq_nb._core.table_rows import table_kind
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb._host.registry import Registry, current_registry, note_current
from agentq_nb._host.setup import setup
from agentq_nb._policies.retry import Retry
from agentq_nb.agent_os import VM
from agentq_nb.errors import BatchElsewhere, BatchPruned, BatchUnknown, ValidationFailed

_MOST_AT_ONCE = 1000


async def map(  # noqa: A001  # it is the name that users know
    function: Any,
    items: Any,
    *,
    name: str,
    concurrency: int = 1,
    limits: Sequence[Any] = (),
    retry: Retry | None = None,
    reply: Any = None,
    timeout: float | None = None,
    store: str | Path | None = None,
    redo: bool = False,
    stop_after: int | None = 10,
    vm: type[VM] | None = None,
    env: Mapping[str, str] | None = None,
    background: bool | None = None,
) -> Batch[Any]:
    """Call a function for each item, in the background and durably. Return the batch once all items are stored.

        batch = await agentq_nb.map(classify, reviews, name="reviews-v1", concurrency=4)
        table = await batch.frame()             # waits; the columns of reviews, then status, reply, error, ...

    If no host runs, one is started. If you call ``map`` again with the same name, even in a new kernel, it continues that
    batch. Items are recognised by their content, so an item that was changed is a new one. Items that are settled
    (completed, failed, cancelled) are not repeated.

    :param function: a plain function (called in a thread) or an async one, which gets one item; or an agent, such as
        ``agents.claude``, which gets each item as a prompt, in a session of its own. The value it returns is the row's
        reply; an exception fails the attempt.
    :param items: a list, another iterable, a DataFrame (its rows are dicts, missing values None) or a Series. If the
        function's parameter is typed by a model or dataclass, it gets that.
    :param name: the batch's name: ``await registry.batch(name)`` finds it again.
    :param concurrency: how many rows are handled at the same time. In a new batch, rows are handled one at a time
        until one has succeeded, so that a mistake in the function does not fail many of them.
    :param limits: as in ``Queue``.
    :param retry: how failed attempts are repeated; ``Retry()`` by default.
    :param reply: the type of the replies; None accepts any JSON. An agent is told the type's JSON Schema beside each prompt,
        and the reply is the last JSON value of its answer that fits; see ``send_prompt``. Without a type it is the text.
    :param timeout: seconds that one attempt may take; then it fails.
    :param store: the path of the file, as in ``setup``.
    :param redo: whether to repeat items that are already settled.
    :param stop_after: the batch stops once this many rows in a row have failed with the same error, as in ``Queue``; None:
        it never stops.
    :param vm: only for an agent: the class of the VM that it works in, ``agent_os(agents=[...], ...)``. With
        ``workspace=Repository(...)``, each item has a VM and a branch of its own, and all begin from the same commit. What
        the agent did is committed and brought back into your repository before the row completes; the row then has
        ``branch``, ``files``, ``insertions`` and ``deletions`` too. The clone is removed, unless something in it was not
        brought back.
    :param env: only for an agent: environment variables for its sessions. None: the agent's API key is taken from this
        process's environment.
    :param background: as in ``setup``.

    Arguments and items are checked before anything is stored. If a write fails, or the call is interrupted, some rows may be
    stored: call it again with the same name to continue. Raises ``actor.validation_error`` for items that are not JSON, for no items, and for a
    function that cannot be called with one item; ``batch.name_taken``; ``batch.pruned``; the errors of the iterable; and
    the errors of ``setup``.
    """
    name = checked_name(name)
    agent = AgentWork(function, vm, env, reply) if is_agent(function) else None
    mapped = None if agent is not None else mapped_function(function)
    if agent is None and (vm is not None or env is not None):
        raise ValidationFailed("vm and env are for agents: a function has the variables of this process.")
    in_branches = agent is not None and agent.vm.repository() is not None
    stop_after = None if stop_after is None else number_options.between("stop_after", stop_after, 1, 10**9)

    work = Work(
        actor_name=actor_name_of(name),
        call=agent.prompt if agent is not None else _without_actor(function),
        is_async=mapped is None or mapped.is_async,
        body=str if mapped is None else mapped.body,
        reply=None if in_branches else reply,
        concurrency=number_options.between("concurrency", concurrency, 1, _MOST_AT_ONCE),
        retry=retry or Retry(),
        timeout=number_options.seconds("timeout", timeout),
        limits=limits,
        stop_after=stop_after,
        digest=mapped.digest if mapped else "",
        clean_up=agent.clean_up if agent is not None and in_branches else None,
    )
    several = worker_class(work, work.concurrency)
    rows: Queue[Any, Any] = several.declared.queues[QUEUE]
    actor = actor_id(work.actor_name, ())
    encoded = await encode_bodies(rows, actor, items)
    registry = await _started(store, background)
    transport = LocalTransport(lambda: registry.host, of_user=True)
    batches = transport.batches
    known = await _known(batches, name)
    if known is not None:
        _check(known, actor, redo)
    facts = _facts(mapped.name if mapped else f"agents.{function.name}", mapped.digest if mapped else "", reply)
    facts["reply_fields"] = list(BRANCH_FIELDS) if in_branches else rows.reply.fields
    if agent is not None:
        facts |= await agent.begin(name, {} if known is None or redo else known.facts)
        agent.vm_name = f"{work.actor_name}_vm"
        await registry.deploy(agent.vm_name, agent.vm)
    proven = known is not None and (await batches.counts(name, known.rows)).completed > 0
    if mapped is not None and mapped.is_pure and is_same_work(registry.classes.get(work.actor_name), several):
        pass  # deploying it again would end what is at work
    elif proven or work.concurrency == 1:
        await registry.deploy(work.actor_name, several)
    else:
        await registry.deploy(
            work.actor_name, worker_class(work, 1, first=lambda: registry.deploy(work.actor_name, several))
        )
    sent = await batches.send(NewBatch(name, actor, QUEUE, encoded, facts=facts, again=redo, whole=True))
    await batches.resume(name)
    if not redo:
        await _say_what_changed(batches, sent, facts)
    return Batch(transport, sent, items if table_kind(items) else None)


def _without_actor(function: Any) -> Any:
    return lambda _, item, _message: function(item)  # type: ignore[reportUnknownLambdaType]  # users' functions


async def _started(store: str | Path | None, background: bool | None) -> Registry:
    """Return the running registry of this file; of the current one if no file is named.

    Outside notebooks, a host that is started here has a thread of its own: it then outlives ``asyncio.run``.
    """
    before = current_registry()
    registry = before if store is None and before is not None else setup(store=store, background=background)
    try:
        if not registry.running:
            if background is None and registry.lifecycle.background is None and kernel_of_shell() is None:
                background = True
            await registry.start(background=background)
    finally:
        if before is not None and before is not registry and before.running:
            note_current(before)
    return registry


async def _known(batches: Batches, name: str) -> StoredBatch | None:
    with suppress(BatchUnknown):
        return await batches.find(name)
    return None


def _check(known: StoredBatch, actor: str, redo: bool) -> None:
    if (known.actor, known.queue) != (actor, QUEUE):
        raise BatchElsewhere(known.name, known.actor, known.queue)
    if known.pruned and not redo:
        raise BatchPruned(known.name)


# --- what has changed since -------------------------------------------------------------------------------------------


def _facts(function: str, digest: str, reply: Any) -> dict[str, Any]:
    return {"function": function, "digest": digest, "reply": getattr(reply, "__name__", str(reply))}


async def _say_what_changed(batches: Batches, sent: StoredBatch, facts: Mapping[str, Any]) -> None:
    """Say in a line that rows were done by another function, or with another type of reply."""
    earlier = sent.earlier
    if not earlier:
        return
    changed: list[str] = []
    if earlier.get("function") != facts["function"]:
        changed.append(f"it was {earlier.get('function')} and is {facts['function']} now")
    elif earlier.get("digest") != facts["digest"]:
        changed.append(f"the code of {facts['function']} has changed")
    if earlier.get("reply") != facts["reply"]:
        changed.append(f"the type of the replies was {earlier.get('reply')} and is {facts['reply']} now")
    counts = await batches.counts(sent.name, sent.rows)
    if changed and counts.completed + counts.failed:
        logging.getLogger("agentq").warning(
            "map '%s': %s. %s", sent.name, ", and ".join(changed), _what_stays(counts.completed, counts.failed)
        )


def _what_stays(done: int, failed: int) -> str:
    rows = [f"that are done ({done})"] if done else []
    rows += [f"{'those ' if done else ''}that failed ({failed})"] if failed else []
    retry = "; await batch.retry_failed() tries again what failed" if failed else ""
    return f"The rows {' and '.join(rows)} stay as they are; redo=True does every row again{retry}."
