from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentq_nb._store import EventLog, row
from agentq_nb.errors import StoreError, StoreWriteFailed
from tests.requirements import missing
from tests.unit.store.helpers import append, event, queued, with_log

APPENDING = """
import asyncio, os, sys
from pathlib import Path
from agentq_nb._store import EventLog, checkpoint, row

checkpoint.COMMITS = 2   # so that kills hit checkpoints too

async def main():
    log = EventLog.open(Path(sys.argv[1]))
    number = log.last_seq
    print(number, flush=True)
    async def sender():
        nonlocal number
        while True:
            number += 1
            mine = number
            answer = asyncio.get_running_loop().create_future()
            log.append([row("x", None, str(mine), None, '{"body":"%s"}' % os.urandom(100).hex())], answer.set_result)
            assert await answer is None
            os.write(1, b"%d\\n" % mine)
    await asyncio.gather(*(sender() for _ in range(5)))

asyncio.run(main())
"""


def test_every_acknowledged_row_survives_a_kill(path: Path) -> None:
    choose = random.Random(7)
    acknowledged = 0
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", APPENDING, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(choose.uniform(0.01, 0.35))
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().split(b"\n")[:-1]
        acknowledged = max([acknowledged, *map(int, lines)])
        log = EventLog.open(path)
        ids = [int(message) for (message,) in log.fetch("select message_id from events order by seq")]
        assert ids == list(range(1, len(ids) + 1))
        assert len(ids) >= acknowledged
        # A kill may end a write in the middle.
        assert all("a write that was not finished" in notice for notice in log.notices)
        log.close()
    assert acknowledged > 200


DISK_FULL = """
import asyncio, resource, sys
from pathlib import Path
from agentq_nb.errors import StoreWriteFailed
from agentq_nb._store import EventLog, row

async def main():
    log = EventLog.open(Path(sys.argv[1]))
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    written = 0
    while log.failed is None and written < 100_000:
        answer = asyncio.get_running_loop().create_future()
        log.append([row("x", None, None, None, '{"body":"%s"}' % ("%x" % hash(str(written)) * 40))] * 5, answer.set_result)
        error = await answer
        written += 5 if error is None else 0
    assert isinstance(error, StoreWriteFailed), error
    answer = asyncio.get_running_loop().create_future()
    log.append([row("x", None, None, None)], answer.set_result)
    assert await answer is log.failed
    try:
        await log.flushed()
        sys.exit("flushed() did not raise")
    except StoreWriteFailed:
        pass
    log.close()
    print(written)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["limit", "tmpfs"])
def test_a_full_disk_fails_the_append_and_costs_nothing_that_was_acknowledged(path: Path, how: str) -> None:
    child = [sys.executable, "-c", DISK_FULL, str(path), how]
    copy = path.parent / "copy"
    copy.mkdir()
    if how == "tmpfs":
        child = in_small_disk(path.parent, child, copy)
    done = subprocess.run(child, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    written = int(done.stdout)
    if how == "tmpfs":
        path = copy / path.name
    log = EventLog.open(path)
    assert log.last_seq >= written > 0
    assert log.fetch("select count(*) from events") == [(log.last_seq,)]
    log.close()


def in_small_disk(folder: Path, child: list[str], copy: Path, megabytes: int = 3) -> list[str]:
    """The command that runs ``child`` with a small disk at ``folder``, and then copies what is on it."""
    alone = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False).returncode:
        missing("A small disk needs the right to mount: run as root, or allow user namespaces.")
    # The copy is reached by its descriptor: its name is under the new disk.
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "$0"'
    script = f'exec 9<"$1"; {mount} && shift && "$@" && cp "$0"/work* /proc/$$/fd/9/'
    return [*alone, "sh", "-c", script, str(folder), str(copy), *child]


def test_a_row_the_log_cannot_take_fails_alone(path: Path) -> None:
    async def use(log: EventLog) -> None:
        answers = await asyncio.gather(
            append(log, queued("a")),
            append(log, queued("b"), "x\t\t\t\t{\n}"),
            append(log, row("x", "lone \ud800 surrogate", None, None)),
            append(log, "x\t\t\t\t{}\tmore"),
            append(log, queued("c"), queued("d")),
        )
        assert [answer is None for answer in answers] == [True, False, False, False, True]
        assert all(isinstance(answer, StoreError) and answer.code == "bad_row" for answer in answers if answer)
        assert not any(isinstance(answer, StoreWriteFailed) for answer in answers)
        assert log.failed is None
        assert await append(log, queued("e")) is None
        assert log.fetch("select seq, message_id from events order by seq") == [(1, "a"), (2, "c"), (3, "d"), (4, "e")]

    with_log(path, use)


def test_what_is_appended_in_one_burst_shares_a_commit_and_answers_come_in_order(path: Path) -> None:
    async def use(log: EventLog) -> None:
        order: list[int] = []
        await log.flushed()
        for number in range(100):
            log.append([queued(f"m{number}")], lambda _, number=number: order.append(number))
        assert log.last_seq == 0
        await log.flushed()
        assert order == list(range(100))
        assert log.last_seq == 100
        assert log.fetch("select count(distinct rowid), count(*) from events") == [(100, 100)]

    with_log(path, use)


def test_a_closed_log_refuses_to_be_flushed_and_says_how_to_go_on(path: Path) -> None:
    async def use(log: EventLog) -> None:
        log.close()
        with pytest.raises(StoreError, match=r"was closed when its host was stopped\. Start it again") as refused:
            await log.flushed()
        assert refused.value.code == "closed"

    with_log(path, use)


def test_a_callback_that_raises_does_not_keep_the_others_from_their_answers(path: Path) -> None:
    async def use(log: EventLog) -> None:
        reported: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(str(context["exception"])))

        def bad(error: StoreError | None) -> None:
            raise RuntimeError("mine")

        log.append([queued("a")], bad)
        assert await append(log, queued("b")) is None
        assert reported == ["mine"]

    with_log(path, use)


def test_closing_writes_what_was_appended_and_can_be_repeated(path: Path) -> None:
    async def use() -> None:
        log = EventLog.open(path)
        answer = append(log, queued("a"))
        log.close()
        log.close()
        assert await answer is None
        with pytest.raises(StoreError, match="closed"):
            log.append([queued("b")])
        with pytest.raises(StoreError, match="closed"):
            log.fetch("select 1")

    asyncio.run(use())
    log = EventLog.open(path)
    assert log.last_seq == 1
    log.close()


def test_the_mark_in_the_guard_follows_each_commit(path: Path) -> None:
    async def use(log: EventLog) -> None:
        guard = path.with_name(path.name + ".guard")
        for number in range(1, 6):
            await append(log, event("x"))
            marks = [int(guard.read_bytes()[offset : offset + 20]) for offset in (4096, 4608)]
            assert max(marks) == number
            assert min(marks) >= number - 1

    with_log(path, use)


def test_a_log_can_move_to_another_loop_once_the_first_has_ended(path: Path) -> None:
    log = EventLog.open(path)

    async def use() -> None:
        assert await append(log, queued("a")) is None

    asyncio.run(use())
    asyncio.run(use())
    assert log.last_seq == 2
    log.close()
