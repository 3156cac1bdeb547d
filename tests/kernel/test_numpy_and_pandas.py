"""What a data scientist sends: values of numpy and pandas, through a real kernel and back."""

from __future__ import annotations

from tests.kernel.driving import Kernel

ACTOR = """
%load_ext agentq_nb
import numpy as np, pandas as pd
from dataclasses import dataclass
from typing import Any
from agentq_nb import Actor, AgentqError, Queue, create_client

@dataclass
class Sums:
    total: Any = 0

class Adder(Actor):
    state: Sums
    rows = Queue(Any, reply=Any)
    async def run(self):
        async for message in self.queue.iter(completable=True):
            self.state.total += np.float64(message.body["price"])
            try:
                await message.complete(frame if message.body["at"] is None else np.float32(self.state.total))
            except AgentqError as error:
                await message.complete(error.message)

frame = pd.DataFrame({"price": [1.5, 2.5], "n": [1, 2], "at": [pd.Timestamp("2026-01-02"), pd.NaT]})
%agentq start
adder = create_client().adder.get_or_create(["main"])
"""


def test_rows_of_a_frame_go_through_and_frames_are_refused_in_one_line(kernel: Kernel) -> None:
    kernel.run(ACTOR).check()
    kernel.run(
        "sent = [{**row, 'n': np.int64(row['n'])} for row in frame.to_dict('records')]\n"
        "replies = [(await adder.send('rows', row, wait=True, timeout=30)).response for row in sent]"
    ).check()
    first, second = kernel.value("replies")
    assert first == 1.5
    assert second.startswith("Reply to message ")
    assert second.endswith(
        'holds a pandas DataFrame, which JSON cannot carry: send x.to_dict("records"), or a message for each row; '
        "for a large one, save it and send the file's path."
    )
    table = kernel.run("%agentq sql SELECT body, reply FROM messages ORDER BY created_at").check().text
    assert "'at': '2026-01-02T00:00" in table
    assert "'at': None" in kernel.run("%agentq sql SELECT body FROM messages ORDER BY created_at DESC").check().text
    refused = kernel.run("await adder.send('rows', frame)")
    assert refused.error_name == "ValidationFailed"
    assert 'holds a pandas DataFrame, which JSON cannot carry: send x.to_dict("records")' in str(refused.error_value)
