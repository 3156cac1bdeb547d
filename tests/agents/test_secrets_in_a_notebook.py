"""A whole notebook with the real agents, full of mishaps that quote keys: executed, saved, and searched with all it left."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from agentq_nb import agents
from agentq_nb._commands.catalog import COMMANDS
from tests.agents.fake_llm import serving
from tests.agents.real_agents import need_agent
from tests.agents.searching import assert_not_stored, assert_nowhere
from tests.kernel.driving import PROJECT
from tests.unit.agent_os.needs import need

OWN_FILES = (".claude", ".claude.json", ".codex", ".pi")
"""Where agents keep what they said and saw: theirs, and as secret as the folder of the VM, which nobody else may read."""

BEGIN = """
import logging, os, subprocess, types
logging.basicConfig(level=logging.DEBUG, filename="everything.log")
from agentq_nb import Actor, Queue, Retry, agent_os, agents, create_client
from tests.agents.real_agents import configure
from tests.agents.test_acp_faults import stub
%load_ext agentq_nb
%agentq start
"""

AGENTS = """
def careless(session, prompt):
    raise RuntimeError(f"401 for {session.env['ANTHROPIC_API_KEY']} in {session}, not for {os.environ['HELD_TOKEN']}")

everyone = [agents.pi, agents.claude, agents.codex, agents.function(careless), stub()]
vm = agent_os(agents=everyone, isolation="required", hosts=[os.environ["MODEL_URL"]])
"""

CONFIGURE = """
model = types.SimpleNamespace(url=os.environ["MODEL_URL"])
loud, quiet, other = (create_client().vm.get_or_create(key) for key in ("loud", "quiet", "other"))
for machine in (loud, quiet):
    await configure(machine, model)
keys = {name: os.environ[name] for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")}
keys |= {"CLAUDE_CODE_MAX_RETRIES": "0"}
"""

SESSIONS = """
at_work = {name: await loud.create_session(name, env=keys) for name in ("pi", "claude", "codex", "careless")}
at_work["stub"] = await loud.create_session("stub", env={"API_KEY": os.environ["ANTHROPIC_API_KEY"]}, keep=True)
at_work
"""

TELL = """
for name in ("pi", "claude", "codex"):
    display(await loud.send_prompt(at_work[name].session_id, "@run env\\n@say my key is {key} and that is all"))
    display(await loud.transcript(at_work[name].session_id))
"""

REFUSED = "await loud.send_prompt(at_work[{name!r}].session_id, '@status 401')"
CARELESS = "await loud.send_prompt(at_work['careless'].session_id, 'go')"
STUB = "await loud.send_prompt(at_work['stub'].session_id, {verb!r})"

BESIDE = """
for machine in (loud, other):
    beside = await machine.create_session("stub", env={"BESIDE_TOKEN": os.environ["BESIDE_TOKEN"]})
    look = "(grep -v BESIDE /proc/self/environ; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\\\0' '\\\\n')"
    await machine.send_prompt(beside.session_id, f"run {look} 2>&1 | grep -av BESIDE_TOKEN > seen; wc -l seen")
    await machine.send_prompt(beside.session_id, "tell BESIDE_TOKEN")
"""

QUIET = """
for name in ("pi", "claude", "codex"):
    session = await quiet.create_session(name, env=keys)
    await quiet.send_prompt(session.session_id, "@write hello.txt hello\\n@say done")
"""

WORKER = """
class Worker(Actor):
    tasks = Queue(str, retry=Retry(attempts=2, backoff=0))

    async def run(self):
        vm = self.actors.vm.get_or_create(["worker"])
        session = await vm.create_session("careless", env={"ANTHROPIC_API_KEY": os.environ["ANTHROPIC_API_KEY"]})
        async for message in self.queue.iter():
            if message.body == "held":
                raise RuntimeError(f"Incorrect API key provided: {os.environ['HELD_TOKEN']}")
            await vm.send_prompt(session.session_id, message.body)
"""

WORK = """
worker = create_client().worker.get_or_create(["main"])
[await worker.send("tasks", body, wait=True, timeout=60) for body in ("held", "ask the agent")]
"""

LOOK = [f"%agentq {name}" for name in ("status", "actors", "sessions", "results", "dead", "agents", "doctor")]
LOOK += ["%agentq dashboard"] if "dashboard" in COMMANDS else []
LOOK += ["await loud.transcript(at_work['stub'].session_id)", "%agentq sql select * from events"]
LOOK += ["await worker.status()", "loud, at_work, vm, worker"]

TAKE_AWAY = """
subprocess.run(["cp", "-a", ".", os.environ["TAKEN"]], check=True)
subprocess.run("cat /proc/[0-9]*/cmdline > $TAKEN/cmdlines", shell=True)
"""
"""By another process: ours would lose its lock on the store by opening it. What is only in the WAL yet is in the copy."""

CELLS = [
    BEGIN,
    AGENTS,
    CONFIGURE,
    SESSIONS,
    TELL,
    *(REFUSED.format(name=name) for name in ("pi", "claude", "codex")),
    CARELESS,
    *(STUB.format(verb=verb) for verb in ("tell API_KEY", "refuse_with_key", "ask_with_key", "tell_and_die API_KEY")),
    BESIDE,
    QUIET,
    WORKER,
    WORK,
    *LOOK,
    TAKE_AWAY,
    "%agentq export copy.duckdb",
]
MAY_FAIL = [REFUSED.format(name=name) for name in ("pi", "claude", "codex")] + [
    CARELESS,
    STUB.format(verb="refuse_with_key"),
    STUB.format(verb="tell_and_die API_KEY"),
]


def test_a_notebook_full_of_mishaps_keeps_every_key_to_itself(tmp_path: Path) -> None:
    need("bubblewrap")
    for agent in (agents.pi, agents.claude, agents.codex):
        need_agent(agent)
    keys = {
        name: f"sk-{secrets.token_hex(20)}"
        for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "BESIDE_TOKEN", "HELD_TOKEN")
    }
    folder, taken, temporary = (tmp_path / name for name in ("folder", "taken", "temporary"))
    for made in (folder, taken, temporary):
        made.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    with serving() as model:
        environment = os.environ | keys
        environment |= {
            "MODEL_URL": model.url,
            "TAKEN": str(taken),
            "TMPDIR": str(temporary),
            "PYTHONPATH": str(PROJECT),
        }
        environment |= {"JPY_SESSION_NAME": str(folder / "nb.ipynb"), "IPYTHONDIR": str(folder / ".ipython")}
        client = NotebookClient(notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}})
        client.execute(env=environment)
    nbformat.write(notebook, folder / "nb.ipynb")
    for cell in notebook.cells:
        errors = [output for output in cell.outputs if output.output_type == "error"]
        assert bool(errors) == (cell.source in MAY_FAIL), (cell.source, cell.outputs)

    written = (folder / "nb.ipynb").read_text()
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        assert any(keys[name] in used for used in model.keys)
    assert written.count("my key is [redacted ANTHROPIC_API_KEY] and that is all") >= 2
    assert written.count("my key is [redacted OPENAI_API_KEY] and that is all") >= 1
    assert "Incorrect API key provided: [redacted HELD_TOKEN]" in written

    everything = list(keys.values())
    for place in (folder, taken):
        assert len(list(place.rglob("seen"))) == 2
        assert (place / "nb.agentq.duckdb").exists()
        assert assert_not_stored(everything, place, without=OWN_FILES) > 10
        for agent in ("pi", "claude", "codex"):
            assert list(place.rglob(f".{agent}"))
    assert (taken / "nb.agentq.duckdb.journal").stat().st_size > 1000
    assert (folder / "everything.log").stat().st_size > 1000
    quiet = next((folder / "nb.agentq" / "vm").glob("quiet-*"))
    assert assert_not_stored(everything, quiet) > 5
    assert_nowhere(everything, (taken / "cmdlines").read_text(errors="replace"))
    for path in temporary.rglob("*"):
        assert not path.is_file() or not any(key.encode() in path.read_bytes() for key in everything), path
