"""Where coding agents are looked for, what is said of those that are missing, and what installing leaves behind."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agentq_nb import agents
from agentq_nb.agent_os.agents import installing
from agentq_nb.agent_os.agents.presets import AS_OF
from agentq_nb.cli import main
from agentq_nb.errors import AgentError

NPM = """#!/bin/sh
echo "npm $*" >> "$LOG"
[ -n "$FAIL" ] && { echo "npm error: no such package" >&2; exit 1; }
bin="$3/node_modules/.bin"
mkdir -p "$bin" "$3/node_modules/pi-acp"
echo '{"version": "1.2.3"}' > "$3/node_modules/pi-acp/package.json"
printf '#!/bin/sh\\necho v22.1.0\\n' > "$3/node_modules/pi-acp/run"
chmod +x "$3/node_modules/pi-acp/run"
for name in pi-acp pi node; do ln -s ../pi-acp/run "$bin/$name"; done
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with an npm that only seems to install, an old Node, and an empty cache."""
    folder = tmp_path / "bin"
    program(folder / "npm", NPM)
    program(folder / "node", "#!/bin/sh\necho v20.1.2\n")
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def npm_calls(machine: Path) -> list[str]:
    log = machine / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_the_cache_is_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert installing.cache() == tmp_path / "agentq" / "agents"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        monkeypatch.setenv("HOME", "/home/someone")
        assert installing.cache() == Path("/home/someone/.cache/agentq/agents")


def test_looking_says_what_is_missing_and_installs_nothing(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = agents.pi.check()
    assert not check
    assert check.missing == (
        "There is no pi-acp on the PATH.",
        "There is no pi on the PATH.",
        "It needs Node 22 or newer, and the one here is 20.1.2.",
        "Install it: agentq agents install pi (in a notebook: %agentq agents install pi).",
    )
    assert main(["agents"]) == 0
    told = capsys.readouterr().out
    assert "agentq agents install codex" in told
    assert npm_calls(machine) == []
    assert not installing.cache().exists()


def test_installing_gets_the_packages_and_a_node_where_the_one_here_is_old(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agents", "install", "pi"]) == 0
    assert "1.2.3" in capsys.readouterr().out
    of_node, of_pi = npm_calls(machine)
    assert (of_node.split()[-1], of_pi.split()[-1]) == ("node@22", agents.pi.packages[-1])
    assert f"--before={AS_OF}" in of_pi, "a dependency published since was never tried with this version"
    check = agents.pi.check()
    assert check
    assert (check.version, check.path) == ("1.2.3", str(installing.cache() / "pi/node_modules/.bin/pi-acp"))
    node = installing.find_node()
    assert node is not None
    assert node.version == "22.1.0"
    assert main(["agents", "install", "pi"]) == 0
    assert len(npm_calls(machine)) == 3  # there is a Node now
    assert sorted(path.name for path in installing.cache().iterdir()) == ["node", "pi"]


def test_a_failed_installation_says_why_and_leaves_what_was_there(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agents", "install", "pi"]) == 0
    monkeypatch.setenv("FAIL", "yes")
    assert main(["agents", "install", "pi"]) == 1
    assert "npm error: no such package" in capsys.readouterr().err
    assert agents.pi.check()
    assert sorted(path.name for path in installing.cache().iterdir()) == ["node", "pi"]


def test_without_npm_installing_says_how_to_get_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine))
    with pytest.raises(AgentError, match=r"npm is not on the PATH: install Node\.js"):
        asyncio.run(installing.install("pi", ["pi-acp"], AS_OF))


def test_a_program_in_the_home_folder_does_not_show_all_of_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(machine / "home"))
    program(machine / "home" / "mine", "")
    found = installing.find(str(machine / "home" / "mine"), "mine")
    assert found is not None
    assert found.readable == (str(machine / "home" / "mine"),)


def test_the_cache_comes_before_the_path(machine: Path) -> None:
    here = machine / "lib" / "node_modules" / "mine"
    program(here / "mine.js", "")
    (here / "package.json").write_text(json.dumps({"version": "0.9"}))
    (machine / "bin" / "mine").symlink_to(here / "mine.js")
    found = installing.find("mine", "mine")
    assert found is not None
    assert (found.program, found.version) == (str(machine / "bin" / "mine"), "0.9")
    assert found.readable == tuple(sorted((str(machine / "bin"), str(here.parent))))
    cached = installing.cache() / "mine/node_modules/.bin/mine"
    program(cached, "")
    found = installing.find("mine", "mine")
    assert found is not None
    assert found.program == str(cached)
