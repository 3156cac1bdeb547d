"""``%agentq notify`` in a real notebook: shown, set, tested, off; and a word that comes while a batch is done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.driving import Kernel
from tests.unit.host.receiver import Receiver, receiving

CELL = """
import agentq_nb, asyncio

def work(number):
    if number == 3:
        raise ValueError("no 3")
    return number
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Kernel]:
    with Kernel(tmp_path_factory.mktemp("notifying")) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run(CELL).check()
        kernel.run(f"%agentq start --notify {receiver.url}").check()
        yield kernel


def test_it_is_shown_set_tested_and_switched_off(loaded: Kernel, receiver: Receiver) -> None:
    assert f"json://127.0.0.1:{receiver.server_address[1]}" in loaded.run("%agentq notify").check().text
    loaded.run("%agentq notify --test").check()
    assert receiver.titles == ["agentq can reach you"]
    assert "nowhere" in loaded.run("%agentq notify off").check().text
    told = loaded.run("%agentq notify --test")
    assert "There is nowhere to send" in f"{told.stderr}{told.error_value}"
    assert "the command true" in loaded.run("%agentq notify -- true --really").check().text
    assert "Notifications" in loaded.run(f"%agentq notify {receiver.url} {receiver.url}").check().text
    wrong = loaded.run("%agentq notify nonsense://x")
    assert "apprise cannot use this URL" in f"{wrong.stderr}{wrong.error_value}"


def test_a_batch_that_is_done_and_what_failed_in_it_are_told(loaded: Kernel, receiver: Receiver) -> None:
    receiver.taken.clear()
    loaded.run(f"%agentq notify {receiver.url}").check()
    loaded.run(
        "batch = await agentq_nb.map(work, range(5), name='five', retry=agentq_nb.Retry(attempts=1))\nawait batch.results()"
    ).check()
    for _ in range(100):
        if len(receiver.taken) >= 2:
            break
        loaded.run("await asyncio.sleep(0.1)").check()
    assert sorted(receiver.titles) == ["1 message of map_five, queue 'rows', failed", "Batch 'five' is done"]
