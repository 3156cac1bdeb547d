"""A host with one VM on a repository, to be killed: ``python -m tests.faults.repository_host FOLDER WORK``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agentq_nb import Repository, agent_os
from tests.unit.agent_os.machine import Machine

SETUP = "echo begun >> ../setup.log; sleep 0.3; echo ready > build/ready"


async def main(folder: Path, work: str) -> None:
    cls = agent_os(workspace=Repository(folder / "shop", setup=f"mkdir -p build; {SETUP}"))
    async with Machine(cls, folder) as vm:
        print("started", flush=True)
        if work == "begin":
            await vm.exec("true")
            print("ready", flush=True)
            await asyncio.sleep(60)
        number = len((await vm.exec("ls numbers 2>/dev/null")).stdout.splitlines())
        print("ready", flush=True)
        while True:
            number += 1
            await vm.write_file(f"numbers/{number}", str(number))
            print(f"wrote {number}", flush=True)
            await vm.commit(f"Number {number}")
            print(f"committed {number}", flush=True)
            await vm.bring_back()
            print(f"brought {number}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
