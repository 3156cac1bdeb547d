"""The magics that read queues, in a real kernel whose queues are on PostgreSQL; and that it counts as busy meanwhile."""

from __future__ import annotations

from tests.kernel.driving import Kernel
from tests.kernel.test_programs_on_postgres import notebook  # noqa: F401  # a fixture


def test_the_magics_answer_over_the_server_and_the_kernel_is_kept_alive(notebook: Kernel) -> None:  # noqa: F811
    def shown(line: str) -> str:
        found = notebook.run(line).check()
        return found.text + found.stdout

    notebook.run("%load_ext agentq_nb").check()
    notebook.run(
        "from agentq_nb import Actor, Queue, Retry, create_client\nclass Echo(Actor):\n"
        "    texts = Queue(str, reply=str, retry=Retry(attempts=1))\n"
        "    @texts.handler\n    async def echo(self, text: str) -> str:\n        return {'hello': 'HELLO'}[text]"
    ).check()
    notebook.run("registry = %agentq start").check()
    assert "postgresql://test@127.0.0.1" in shown("registry")
    assert "HELLO" in shown('%agentq ask echo/main texts "hello"')
    shown('%agentq ask echo/main texts --no-check "other"')
    assert "HELLO" in shown("%agentq results")
    assert "KeyError" in shown("%agentq dead")
    assert "failed" in shown("%agentq sql select status, count(*) from messages group by status")
    assert "echo/main" in shown("%agentq hosts")
    shown("%agentq pause echo/main texts")
    assert "by hand" in str(notebook.value("[str(x) for x in (await registry.limits.pauses())['cause']]"))
    shown("%agentq export copy.duckdb")
    assert notebook.value("registry.lifecycle._keep_alive is not None")
    assert "end this kernel" not in shown("%agentq status")
    assert "No dead letters" not in shown("%agentq dead")
