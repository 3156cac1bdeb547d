"""``diff``, ``bring-back`` and ``repos``: what they print, and in which colours."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentq_nb import Repository, agent_os, create_client, setup
from agentq_nb._commands.from_shell import run
from agentq_nb._display import document_of
from agentq_nb._display.html import as_html
from agentq_nb._display.repositories import coloured
from agentq_nb.agent_os import Diff
from agentq_nb.cli import main
from tests.unit.agent_os.user_repository import UserRepository


def test_a_vms_changes_are_shown_and_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user = UserRepository(tmp_path)

    async def program() -> None:
        vm = agent_os(workspace=Repository(user.path))
        async with setup(use={"vm": vm}, store=tmp_path / "work.agentq.duckdb") as registry:

            async def typed(*words: str) -> str:
                printed = await run(registry, words, tmp_path)
                assert (printed.status, printed.error) == (0, "")
                return printed.text

            assert "No VM has a clone" in await typed("repos")
            box = create_client().vm.get_or_create("box")
            await box.write_file("src/login.py", "def login():\n    return 'home'\n")
            shown = await typed("diff", "vm/box")
            assert shown.startswith("agentq/vm/box: 1 file, +1 -1")
            assert "  -    return 'redirect to /undefined'\n  +    return 'home'" in shown
            back = await typed("bring-back", "vm/box", "--commit", "Fix the login", "--branch", "fix")
            assert "Branch fix: 1 file, +1 -1" in back
            (line,) = [line for line in (await typed("repos")).splitlines() if line.startswith("vm/box")]
            assert "agentq/vm/box" in line
            assert f"fix at {user.git('rev-parse', '--short=12', 'fix')}" in line

    asyncio.run(program())
    assert user.git("log", "-1", "--format=%s", "fix") == "Fix the login"
    monkeypatch.chdir(tmp_path)
    assert main(["repos"]) == 0
    assert "vm/box" in capsys.readouterr().out
    assert main(["diff", "vm/box"]) == 1
    assert "diff needs a host" in capsys.readouterr().err
    # Work in a clone may be nowhere else, so its folder is not pruned, however old.
    assert main(["vms", "prune", "--older", "0s", "--yes"]) == 0
    assert len(list((tmp_path / "work.agentq" / "vm").glob("box-*/shop"))) == 1


def test_lines_of_a_diff_have_colours_and_no_text_of_an_agent_becomes_markup() -> None:
    text = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-<b>old\n+<script>\x1b[31mnew\n context\n"
    document = document_of(Diff("agentq/vm/a", "0" * 40, text, (), 1, 1))
    assert document is not None
    page = as_html(document)
    assert "<script" not in page
    assert "\x1b" not in page
    assert page.count("<span style=") == 6
    assert ">+&lt;script&gt;new</span>" in page
    printed = coloured("title\n\nDiff:\n  diff --git a/x b/x\n  @@ -1 +1 @@\n  -old\n  +new\n   context")
    assert "\x1b[31m  -old\x1b[0m\n\x1b[32m  +new\x1b[0m\n   context" in printed
    assert printed.startswith("title\n\nDiff:\n")
