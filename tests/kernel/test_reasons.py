"""A wait that ends in a real kernel says why, and the notebook shows it."""

from __future__ import annotations

from tests.kernel.driving import Kernel

ACTOR = """
%load_ext agentq_nb
from agentq_nb import Actor, Queue, create_client
class Runner(Actor):
    tasks = Queue(str)
    async def run(self):
        self.quue.iter()
%agentq start
runner = create_client().runner.get_or_create(["main"])
"""


def test_a_wrong_call_in_run_is_named_where_the_wait_ends(kernel: Kernel) -> None:
    kernel.run(ACTOR).check()
    shown = kernel.run("await runner.send('tasks', 'a', wait=True, timeout=1)").check()
    assert "Not started: `run` of its actor failed. AttributeError: " in shown.text
    assert "`run` of its actor failed" in shown.html
    asked = kernel.run("%agentq ask --timeout 1 runner/main tasks b")
    assert "`run` of its actor failed. AttributeError: " in str(asked.error_value)
