"""``kill -9`` of a real kernel with messages that may expire, are delayed, or whose senders wait for room.

What handlers were given is written to a file before they do anything else, so that no proof rests on the log alone.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.kernel.conftest import IN_BOTH_PLACES
from tests.kernel.driving import Kernel

WORKER = """
import asyncio, json, os, time
from agentq_nb import Actor, Queue, create_client, setup

def note(*facts):
    file = os.open("ledger.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, json.dumps([time.time(), *facts]).encode() + b"\\n")
    os.close(file)

class Worker(Actor):
    jobs = Queue(str, max_size=3, on_full="wait")

    async def run(self):
        async for message in self.queue.iter():
            note("given", message.body, message.attempt)
            WORK

registry = setup(use={"worker": Worker})
await registry.start()
worker = create_client().worker.get_or_create("main")
"""

NOBODY = WORKER.replace("setup(use={'worker': Worker})", "setup()").replace(
    "        async for message in self.queue.iter():", "        return\n        async for message in self.queue.iter():"
)
"""Takes no message."""


def works(work: str = "pass") -> str:
    return WORKER.replace("WORK", work)


def ledger(kernel: Kernel, kind: str) -> list[list[Any]]:
    """The facts of this kind, without it: when, and what."""
    path = Path(kernel.cwd) / "ledger.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [[when, *facts] for when, said, *facts in map(json.loads, lines) if said == kind]


def given(kernel: Kernel) -> list[tuple[str, int]]:
    return [(body, attempt) for _, body, attempt in ledger(kernel, "given")]


def down_until(kernel: Kernel, moment: float) -> None:
    """Kill the kernel, and start another one after that moment."""
    kernel.kill()
    while time.time() < moment:  # its messages go by the machine's clock
        time.sleep(0.05)
    kernel.restart()


def results_of(kernel: Kernel, messages: list[str]) -> list[str]:
    kernel.run(f"results = [await create_client().receipt(id).result(60) for id in {messages!r}]").check()
    return list(kernel.value("[result.status for result in results]"))


@IN_BOTH_PLACES
def test_messages_expire_while_the_kernel_is_dead_and_are_never_handed_out(kernel: Kernel) -> None:
    kernel.run(NOBODY.replace("WORK", "pass")).check()
    sent = kernel.value("[(await worker.send('jobs', b, ttl=t)).id for b, t in (('late', 3), ('patient', 3600))]")
    key = kernel.value("(await worker.send('jobs', 'named', ttl=3, idempotency_key='k')).id")
    down_until(kernel, time.time() + 3)
    kernel.run(works()).check()
    assert results_of(kernel, [*sent, key]) == ["expired", "completed", "expired"]
    assert given(kernel) == [("patient", 1)]
    rows = "select status, count(*)::int from messages group by status order by status"
    assert kernel.value(f"[list(row) for row in (await registry.sql({rows!r})).rows]") == [
        ["completed", 1],
        ["expired", 2],
    ]
    again = kernel.value("(await worker.send('jobs', 'named again', idempotency_key='k')).id")
    assert results_of(kernel, [again]) == ["completed"]


@IN_BOTH_PLACES
def test_a_message_expires_without_its_class(kernel: Kernel) -> None:
    kernel.run(NOBODY.replace("WORK", "pass")).check()
    sent = kernel.value("(await worker.send('jobs', 'late', ttl=3)).id")
    down_until(kernel, time.time())
    kernel.run("from agentq_nb import create_client, setup\nregistry = setup()\nawait registry.start()").check()
    assert results_of(kernel, [sent]) == ["expired"]


@IN_BOTH_PLACES
def test_what_was_started_in_time_is_handed_out_again_however_late(kernel: Kernel) -> None:
    kernel.run(works("await asyncio.sleep(3600)")).check()
    sent = kernel.value("(await worker.send('jobs', 'begun', ttl=2)).id")
    began = time.time()
    while not given(kernel):
        kernel.listen(0.02)
    down_until(kernel, began + 2)
    kernel.run(works()).check()
    assert results_of(kernel, [sent]) == ["completed"]
    assert given(kernel) == [("begun", 1), ("begun", 2)]


@IN_BOTH_PLACES
def test_a_delay_goes_on_while_the_kernel_is_dead_and_the_ttl_begins_after_it(kernel: Kernel) -> None:
    kernel.run(works()).check()
    kernel.run(
        "sent = [await worker.send('jobs', 'soon', delay=4, ttl=3600), await worker.send('jobs', 'no', delay=1, ttl=1)]"
    )
    sent = kernel.value("[receipt.id for receipt in sent]")
    due = kernel.value("(await registry.sql(\"select max((data->>'$.due')::double) from events\")).rows[0][0]")
    down_until(kernel, due - 1)
    kernel.run(works()).check()
    assert results_of(kernel, sent) == ["completed", "expired"]
    ((when, *job),) = ledger(kernel, "given")
    assert job == ["soon", 1]
    assert when >= due


SENDERS = """
async def send(number):
    receipt = await worker.send("jobs", str(number))
    note("sent", number, receipt.id)

senders = []
for number in range(COUNT):
    senders.append(asyncio.ensure_future(send(number)))
    await asyncio.sleep(0)
"""


@IN_BOTH_PLACES
def test_senders_that_wait_when_the_kernel_is_killed_have_sent_nothing(kernel: Kernel) -> None:
    kernel.run(NOBODY.replace("WORK", "pass")).check()
    kernel.run(SENDERS.replace("COUNT", "20")).check()
    while kernel.value("(await worker.status()).queues[0].waiting_senders") != 17:
        kernel.listen(0.05)
    assert [number for _, number, _ in ledger(kernel, "sent")] == [0, 1, 2]
    down_until(kernel, time.time())
    kernel.run(works()).check()
    kernel.run("after = await worker.send('jobs', 'after', wait=True, timeout=60)").check()
    assert kernel.value("after.status") == "completed"
    assert given(kernel) == [("0", 1), ("1", 1), ("2", 1), ("after", 1)]


@IN_BOTH_PLACES
def test_senders_are_served_in_order_until_the_kill_and_none_that_was_told_is_lost(kernel: Kernel) -> None:
    kernel.run(works("await asyncio.sleep(0.01)")).check()
    kernel.run(SENDERS.replace("COUNT", "200")).check()
    while len(given(kernel)) < 30:
        kernel.listen(0.02)
    down_until(kernel, time.time())
    kernel.run(works()).check()
    kernel.run("after = await worker.send('jobs', 'after', wait=True, timeout=60)").check()
    sent = [number for _, number, _ in ledger(kernel, "sent")]
    assert 30 <= len(sent) < 200
    assert sent == list(range(len(sent)))
    bodies = list(dict.fromkeys(body for body, _ in given(kernel)))
    stored = [int(body) for body in bodies if body != "after"]
    # A message may be on the disk before its sender was told.
    assert stored == list(range(len(stored)))
    assert set(sent) <= set(stored)
