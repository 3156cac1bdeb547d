"""Which addresses a real agent talks to, and which programs it starts, as the system sees it (strace)."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from agentq_nb import agent_os
from agentq_nb.agent_os.agents import AcpAgent
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEYS, configure
from tests.requirements import missing
from tests.unit.agent_os.machine import Machine

_INTERNET = re.compile(
    r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\""
)
_RESOLVER = re.compile(r"sa_family=AF_UNIX, sun_path=\"([^\"]*(?:resolve|avahi)[^\"]*)\"")
_LOOPBACK = re.compile(r"127\.|::1$|::ffff:127\.")


def show_it_talks_to_its_model_only(agent: AcpAgent, folder: Path) -> None:
    """In a session with prompts that call tools: no update checks, no telemetry, no name looked up."""
    record = folder / "calls"
    watched = traced(agent, record)
    with serving() as model:
        port = model.server_address[1]
        asyncio.run(_use(watched, model, folder))
    calls = record.read_text(errors="replace").splitlines()
    assert ("127.0.0.1", port) in talked_to(calls)
    assert beyond(talked_to(calls), port) == set()
    assert "cat" in called(calls)
    # What is called and given up on before it has found its registry would not show up on a slow machine.
    assert called(calls).isdisjoint({"npm", "curl", "wget", "pip"})


async def _use(agent: AcpAgent, model: FakeModel, folder: Path) -> None:
    """What a user does: a session with prompts that call tools, and its end."""
    async with Machine(agent_os(agents=[agent], isolation="off"), folder) as vm:
        await configure(vm, model, quiet=False)
        session = await vm.create_session(agent.name, env=KEYS)
        result = await vm.send_prompt(session.session_id, "@write hello.txt hello\n@run cat hello.txt\n@say written")
        assert result.text.endswith("written")
        assert (await vm.send_prompt(session.session_id, "@say done")).text.endswith("done")
        await vm.close_session(session.session_id)


def traced(agent: AcpAgent, into: Path) -> AcpAgent:
    """The same agent, with a record of what it and all that it starts call: programs and addresses."""
    strace = shutil.which("strace")
    if strace is None:
        missing("What an agent connects to cannot be seen here: there is no strace. Install it: apt install strace.")
    program = agent.check().path
    assert program is not None
    # In a folder of its own: that of the system has an older Node, and would come first on the agent's PATH.
    own = into.with_name("strace-only") / "strace"
    own.parent.mkdir()
    own.symlink_to(strace)
    tracing = (
        str(own),
        "-f",
        "-qq",
        "-s",
        "256",
        "-e",
        "trace=execve,connect,sendto,sendmsg,sendmmsg",
        "-o",
        str(into),
    )
    helpers = (*agent.helpers, agent.argv[0])
    return replace(agent, argv=(*tracing, program, *agent.argv[1:]), helpers=helpers)


def talked_to(lines: Iterable[str]) -> set[tuple[str, int]]:
    """Every address with its port; a resolver's socket file has none (0)."""
    found: set[tuple[str, int]] = set()
    for line in lines:
        for port, address in _INTERNET.findall(line):
            found.add((address, int(port)))
        for path in _RESOLVER.findall(line):
            found.add((path, 0))
    return found


def called(lines: Iterable[str]) -> set[str]:
    """The names of the programs that were started."""
    return {
        Path(path).name for line in lines for path in re.findall(r"execve\(\"([^\"]+)\"", line) if "= -1" not in line
    }


def beyond(addresses: set[tuple[str, int]], *ports: int) -> set[tuple[str, int]]:
    """Those that are not on loopback at one of these ports: name servers too, wherever they are."""
    return {(address, port) for address, port in addresses if not (_LOOPBACK.match(address) and port in ports)}
