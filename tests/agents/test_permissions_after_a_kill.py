"""A kernel that is killed while a request waits: nobody sees a ghost of it afterwards."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.driving import Kernel

START = """
from agentq_nb import agent_os, agents, create_client, setup

async def asks(session, prompt):
    return "done" if await session.ask(prompt) else "left alone"

registry = setup(use={"vm": agent_os(agents=[agents.function(asks)], permissions="ask")}, store="nb.agentq.duckdb")
await registry.start()
vm = create_client().vm.get_or_create(["a"])
"""

ASK = """
import asyncio
requests = []
vm.on("permission_request", requests.append)
kept = [(await vm.create_session("asks", keep=True)).session_id for _ in range(2)]
brief = (await vm.create_session("asks")).session_id
prompts = [asyncio.ensure_future(vm.send_prompt(session_id, "rm")) for session_id in (*kept, brief)]
while len(requests) < 3:
    await asyncio.sleep(0.01)
by_session = {request.session_id: request.request_id for request in requests}
await vm.respond_permission(kept[1], by_session[kept[1]], "allow")
"""

ENDS = """
async def ends(session_id):
    events = await vm.session_events(session_id)
    assert [event.index for event in events] == list(range(1, len(events) + 1))
    return [(e.data["answer"], e.data["by"], e.text) for e in events if e.type == "permission_answer"]
"""

REFUSED = ["deny", "cancelled", "permission for rm: deny (the kernel ended before it was answered)"]


def test_what_waited_when_the_kernel_was_killed_is_refused_at_the_next_wake(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run(START + ASK).check()
        kept, brief, lost = kernel.value("kept"), kernel.value("brief"), kernel.value("by_session[kept[0]]")
        kernel.kill()
        kernel.restart()
        kernel.run(START + ENDS).check()
        kernel.run("waiting = await vm.list_permission_requests()").check()
        assert kernel.value("waiting") == []
        kernel.run(f"found = [await ends(session_id) for session_id in {[*kept, brief]!r}]").check()
        found = [[list(end) for end in ends] for ends in kernel.value("found")]
        assert found == [[REFUSED], [["allow", "user", "permission for rm: allow"]], [REFUSED]]
        answered = kernel.run(f"await vm.respond_permission({kept[0]!r}, {lost!r}, 'allow')")
        assert answered.error_name == "PermissionAnswered"
        assert "the kernel ended" in (answered.error_value or "")
        # Waking once more writes nothing more.
        kernel.restart()
        kernel.run(START + ENDS).check()
        kernel.run(f"found = await ends({kept[0]!r})").check()
        assert [list(end) for end in kernel.value("found")] == [REFUSED]
