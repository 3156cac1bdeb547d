"""The README is true: its commands, names and files exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

import agentq_nb
from agentq_nb._commands.catalog import COMMANDS

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def command_after(marker: str) -> str:
    blocks = re.findall(rf"^<!-- {marker} -->\n```bash\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"one fenced block right after <!-- {marker} -->"
    return str(blocks[0])


@pytest.mark.parametrize("marker", ["run", "test"])
def test_each_of_the_two_commands_is_one_line_that_makes_its_own_environment(marker: str) -> None:
    command = command_after(marker)
    assert "\n" not in command
    environment, installation, work = command.split(" && ")
    assert environment == "python3 -m venv .venv"
    assert installation.startswith(".venv/bin/pip install ")
    assert shlex.split(work)[0].startswith(".venv/bin/")
    assert ".venv/" in (CHECKOUT / ".gitignore").read_text().splitlines()


def test_the_continuous_integration_takes_the_test_command_from_the_readme() -> None:
    script = (CHECKOUT / ".ci" / "run").read_text()
    extraction = re.search(r"^command=\$\((awk .*)\)$", script, re.MULTILINE)
    assert extraction
    said = subprocess.run(["bash", "-c", extraction[1]], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == command_after("test")


def test_the_programs_the_commands_start_are_declared() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["agentq"] == "agentq_nb.cli:main"
    assert {"lab", "test"} <= project["optional-dependencies"].keys()


def test_every_magic_named_in_the_readme_is_a_command() -> None:
    named = set(re.findall(r"%agentq (?:\w+)", README))
    assert named
    assert {words.split()[1] for words in named} <= COMMANDS.keys()


def test_every_name_the_readme_imports_is_public() -> None:
    imported = re.findall(r"^from agentq_nb import (.+)$", README, re.MULTILINE)
    assert imported
    for name in imported[0].split(", "):
        assert name in agentq_nb.__all__


def test_every_file_the_readme_links_to_exists() -> None:
    linked = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert linked
    assert [name for name in linked if not (CHECKOUT / name).exists()] == []


def test_every_view_the_readme_names_is_in_the_store() -> None:
    views = set(re.findall(r"^create view (\w+)", (CHECKOUT / "agentq_nb/_store/views.sql").read_text(), re.MULTILINE))
    listed = re.search(r"Tables and views: (.*?)\.\s", README, re.DOTALL)
    assert listed
    assert set(re.findall(r"`(\w+)`", listed[1])) == views | {"events"}
