"""What RivetKit's own driver tests ask of a server, asked by its client of actors in Python, in each encoding.

The scripts in ``driver/`` are ours; each is about the subject of one of theirs.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentq_nb import setup
from tests.rivetkit.actors import ACTORS
from tests.rivetkit.npm import run_node, script_folder

pytestmark = pytest.mark.anyio

SCRIPTS = Path(__file__).with_name("driver")
SUBJECTS = sorted(script.stem for script in SCRIPTS.glob("*.mjs") if script.stem != "checks")
TOKEN = "a-token-for-tests-only"


def test_there_is_a_script_for_each_subject() -> None:
    subjects = {"queues", "handles", "errors", "actions", "schedule", "state", "run", "destroy", "connections"}
    assert set(SUBJECTS) == subjects


@pytest.mark.parametrize("encoding", ["bare", "cbor", "json"])
@pytest.mark.parametrize("subject", SUBJECTS)
async def test_actors_behave_as_those_of_rivetkit(package: Path, tmp_path: Path, subject: str, encoding: str) -> None:
    folder = script_folder(package, SCRIPTS, tmp_path / "scripts")
    async with setup(use=ACTORS, store=tmp_path / "q.duckdb") as registry:
        server = await registry.serve(port=0, token=TOKEN)
        arguments = ("--test", "--test-force-exit", "--test-reporter=tap", f"{subject}.mjs")
        ended = await run_node(folder, *arguments, ENDPOINT=server.url, TOKEN=TOKEN, ENCODING=encoding)
    assert ended.status == 0, ended.printed[-8000:] + ended.errors[-2000:]
    counts = dict(re.findall(r"^# (tests|pass|fail|skipped|todo) (\d+)$", ended.printed, re.MULTILINE))
    assert counts["pass"] == counts["tests"] != "0", counts
