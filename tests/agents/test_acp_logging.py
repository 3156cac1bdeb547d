"""Whatever an agent does, nothing is printed into a cell, and the kernel's logging stays as the user has set it up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

PROGRAM = """
import asyncio, logging, sys
from pathlib import Path
from tests.agents.test_acp_faults import machine
from tests.agents.test_permissions import listen

async def program():
    async with machine(Path(sys.argv[1]), permissions="ask") as vm:
        heard = listen(vm)
        session_id = (await vm.create_session("stub")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, sys.argv[2]))
        await heard()
        {end}
        await asyncio.wait({{prompting}})
        prompting.exception()

asyncio.run(program())
print(logging.root.handlers)
"""

ENDS = {
    "closed": "await vm.close_session(session_id)",
    "cancelled": "await vm.cancel_prompt(session_id)",
    "destroyed": "await vm.destroy()",
    "stopped": "await vm.registry.stop()",
    "answered": "await vm.respond_permission(session_id, (await vm.list_permission_requests())[0].request_id, 'allow')",
    "died": "pass",
}


@pytest.mark.parametrize(
    ("end", "prompt"),
    [
        *((end, prompt) for end in ("closed", "cancelled", "destroyed", "stopped") for prompt in ("ask", "take_back")),
        ("answered", "ask"),
        ("died", "ask_and_die"),
    ],
)
def test_an_open_request_ends_without_a_word_in_the_cell(end: str, prompt: str, tmp_path: Path) -> None:
    program = [sys.executable, "-c", PROGRAM.format(end=ENDS[end]), str(tmp_path), prompt]
    done = subprocess.run(program, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)
