"""The dashboard's JavaScript: the tests of its modules, their types, and the committed bundle that pages load."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from agentq_nb._core.message_status import ALL
from agentq_nb._notebook import dashboard
from agentq_nb.agent_os import SessionInfo
from tests.unit.agent_os.needs import missing

FOLDER = Path(dashboard.__file__).parent
BUNDLE = FOLDER / "static" / "dashboard.js"
TESTS = Path(__file__).parent / "js"

GET_NODE = "Install Node.js 18 or newer with npm: https://nodejs.org, or apt install npm."


def program(name: str) -> str:
    """The path of a program that comes with Node.js. Without it, the test is skipped, and fails in CI."""
    return shutil.which(name) or missing(f"{name} is not on the PATH. {GET_NODE}")


def run(command: list[str], folder: Path) -> str:
    """What a command printed. Fails with that if the command does."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=200)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules in a folder of their own, with the tools of their lock file."""
    folder = tmp_path_factory.mktemp("dashboard")
    shutil.copytree(FOLDER / "js", folder / "js", ignore=shutil.ignore_patterns("node_modules"))
    command = [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    once = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]  # a machine without a network is told from a slow one
    done = subprocess.run([*command, *once], cwd=folder / "js", capture_output=True, text=True, timeout=250)
    if done.returncode:
        missing(f"npm could not install esbuild and TypeScript: {done.stderr[-2000:]}")
    return folder / "js"


def test_the_modules_do_what_their_own_tests_say() -> None:
    tests = sorted(str(path) for path in TESTS.glob("*.test.mjs"))
    assert tests
    run([program("node"), "--test", *tests], TESTS)


def test_the_committed_bundle_is_made_of_the_modules_as_they_are(copied: Path) -> None:
    run([program("npm"), "run", "bundle"], copied)
    made = (copied.parent / "static" / BUNDLE.name).read_text(encoding="utf-8")
    if BUNDLE.read_text(encoding="utf-8") != made:  # pytest would show both of an assertion
        how = f"cd {FOLDER / 'js'} && npm ci && npm run bundle"
        pytest.fail(f"The modules changed since they were bundled. Bundle them again, and commit the result: {how}")


def test_the_types_of_the_modules_hold(copied: Path) -> None:
    run([program("npm"), "run", "check"], copied)


def test_the_page_keeps_no_list_of_statuses_and_its_colours_are_of_statuses_that_exist() -> None:
    modules = {path: path.read_text(encoding="utf-8") for path in (FOLDER / "js").rglob("*.js")}
    modules = {path: text for path, text in modules.items() if "node_modules" not in path.parts}
    words = rf'"(?:{"|".join(ALL)})"'
    lists = [
        f"{path.name}: {found}"
        for path, text in modules.items()
        for found in re.findall(rf"{words}(?:,\s*{words})+", text)
        if len(set(re.findall(words, found))) > 1
    ]
    assert modules
    assert lists == []
    coloured = re.findall(r'data-status="(\w+)"', (FOLDER / "dashboard.css").read_text(encoding="utf-8"))
    assert coloured
    assert set(coloured) <= {*ALL, *get_args(get_type_hints(SessionInfo)["status"])}
