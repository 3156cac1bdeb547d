"""Where coding agents are looked for, what is said of those that are missing, and what installing leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from agentq_nb import agents
from agentq_nb.agent_os.agents import install
from agentq_nb.agent_os.agents.presets import PRESETS
from agentq_nb.cli import main
from agentq_nb.errors import AgentError

PROJECT = Path(__file__).resolve().parents[3]
SECRET = "sk-of-the-notebook"

NPM = """#!/bin/sh
here="$(dirname "$0")"
echo "npm $*" >> "$here/log"
env >> "$here/env"
[ -e "$here/fail" ] && { echo "npm error: no such package" >&2; exit 1; }
[ -e "$here/hang" ] && { touch "$here/hangs"; exec sleep 600; }
[ -e package.json ] && [ -e package-lock.json ] || exit 2
bin="$PWD/node_modules/.bin"
mkdir -p "$bin" "$PWD/node_modules/pi-acp"
echo '{"version": "1.2.3"}' > "$PWD/node_modules/pi-acp/package.json"
printf '#!/bin/sh\\necho v22.19.0\\n' > "$PWD/node_modules/pi-acp/run"
chmod +x "$PWD/node_modules/pi-acp/run"
for name in pi-acp pi node; do ln -sf ../pi-acp/run "$bin/$name"; done
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with an npm that only seems to install, an old Node, and an empty cache."""
    folder = tmp_path / "bin"
    program(folder / "npm", NPM)
    program(folder / "node", "#!/bin/sh\necho v20.1.2\n")
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    monkeypatch.setenv("NODE_OPTIONS", f"--title={SECRET}")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def npm_calls(machine: Path) -> list[str]:
    log = machine / "bin" / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_the_cache_is_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert install.cache() == tmp_path / "agentq" / "agents"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        monkeypatch.setenv("HOME", "/home/someone")
        assert install.cache() == Path("/home/someone/.cache/agentq/agents")


def test_looking_says_what_is_missing_and_installs_nothing(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = agents.pi.check()
    assert not check
    assert check.missing == (
        "There is no pi-acp on the PATH.",
        "There is no pi on the PATH.",
        "It needs Node 22.19 or newer, and the one here is 20.1.2.",
        "Install it: agentq agents install pi (in a notebook: %agentq agents install pi).",
    )
    assert main(["agents"]) == 0
    told = capsys.readouterr().out
    assert "agentq agents install codex" in told
    assert npm_calls(machine) == []
    assert not install.cache().exists()


def test_installing_gets_the_packages_and_a_node_where_the_one_here_is_old(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agents", "install", "pi"]) == 0
    assert "1.2.3" in capsys.readouterr().out
    of_node, of_pi = npm_calls(machine)
    assert of_node == of_pi
    assert of_pi.startswith("npm ci --ignore-scripts ")
    check = agents.pi.check()
    assert check
    assert (check.version, check.path) == ("1.2.3", str(install.cache() / "pi/node_modules/.bin/pi-acp"))
    node = install.find_node()
    assert node is not None
    assert node.version == "22.19.0"
    assert main(["agents", "install", "pi"]) == 0
    assert len(npm_calls(machine)) == 3  # there is a Node now
    assert sorted(path.name for path in install.cache().iterdir()) == ["node", "pi"]


def test_a_failed_installation_says_why_and_leaves_what_was_there(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agents", "install", "pi"]) == 0
    (machine / "bin" / "fail").touch()
    assert main(["agents", "install", "pi"]) == 1
    assert "npm error: no such package" in capsys.readouterr().err
    assert agents.pi.check()
    assert sorted(path.name for path in install.cache().iterdir()) == ["node", "pi"]


def test_npm_is_given_none_of_the_notebooks_variables(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HTTPS_PROXY": "http://proxy", "no_proxy": "mine", "npm_config_registry": "http://r"}.items():
        monkeypatch.setenv(name, value)
    asyncio.run(install.install("pi"))
    given = (machine / "bin" / "env").read_text()
    assert SECRET not in given
    for line in ("HTTPS_PROXY=http://proxy", "no_proxy=mine", "npm_config_registry=http://r", f"HOME={Path.home()}"):
        assert line in given.splitlines()


def test_only_named_packages_run_their_scripts_and_these_see_not_even_npms_settings(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_//registry/:_authToken", SECRET)
    monkeypatch.setattr(install, "_locked_for_this_machine", lambda name: {"scriptsOf": ["opencode-ai"]})
    asyncio.run(install.install("opencode"))
    assert npm_calls(machine)[-1].startswith("npm rebuild opencode-ai ")
    environments = (machine / "bin" / "env").read_text().split("PWD=")
    assert SECRET not in environments[-1]
    assert f"HOME={Path.home()}\n" not in environments[-1]


def test_an_agent_whose_packages_are_not_pinned_for_this_machine_is_refused(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.platform, "machine", lambda: "riscv64")
    with pytest.raises(AgentError, match=r"linux \(x64\) only.* npm install --global opencode-ai@1\.18\.33"):
        asyncio.run(install._install("opencode"))
    assert npm_calls(machine) == []


def test_what_a_killed_installation_left_is_removed_and_one_that_runs_is_not_disturbed(machine: Path) -> None:
    (machine / "bin" / "hang").touch()
    code = "import asyncio; from agentq_nb.agent_os.agents.install import install; asyncio.run(install('codex'))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT) as killed:
        while not (machine / "bin" / "hangs").exists():
            assert killed.poll() is None
            time.sleep(0.01)
        (left,) = install.cache().iterdir()
        (machine / "bin" / "hang").unlink()
        asyncio.run(install.install("pi"))
        assert left.exists(), "it runs"
        killed.kill()
    (npm,) = [number for number in processes() if b"sleep\x00600" in cmdline(number) and cwd(number) == left]
    asyncio.run(install.install("pi"))
    assert left.exists(), "npm goes on for a while"
    os.kill(npm, signal.SIGKILL)
    while cwd(npm) == left:
        time.sleep(0.01)
    asyncio.run(install.install("pi"))
    assert sorted(path.name for path in install.cache().iterdir()) == ["node", "pi"]


def processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def cmdline(number: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_bytes()
    return b""


def cwd(number: int) -> Path | None:
    with suppress(OSError):
        return Path(f"/proc/{number}/cwd").readlink()
    return None


@pytest.mark.parametrize("name", ["node", *PRESETS])
def test_every_package_is_pinned_with_its_hash_and_to_no_registry(name: str) -> None:
    folder = install.LOCKS / name
    package, lock = (json.loads((folder / file).read_text()) for file in ("package.json", "package-lock.json"))
    named = package.get("dependencies", {}) | package.get("optionalDependencies", {})
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in named.values())
    pinned = lock["packages"]
    own = pinned.pop("")
    assert {key: package[key] for key in ("dependencies", "optionalDependencies") if key in package} == {
        key: own[key] for key in ("dependencies", "optionalDependencies") if key in own
    }
    assert {f"node_modules/{name}" for name in named} <= pinned.keys()
    for facts in pinned.values():
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", facts["integrity"])
        assert "resolved" not in facts
        assert not facts.get("link")
    assert "://" not in re.sub(r'"url": "[^"]*"', "", (folder / "package-lock.json").read_text())


def test_node_is_pinned_to_a_version_that_is_new_enough() -> None:
    named = json.loads((install.LOCKS / "node/package.json").read_text())["optionalDependencies"]
    (version,) = set(named.values())
    assert tuple(map(int, version.split("."))) >= install.OLDEST_NODE


def test_without_npm_installing_says_how_to_get_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine))
    with pytest.raises(AgentError, match=r"npm is not on the PATH: install Node\.js"):
        asyncio.run(install.install("pi"))


def test_a_program_in_the_home_folder_does_not_show_all_of_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(machine / "home"))
    program(machine / "home" / "mine", "")
    found = install.find(str(machine / "home" / "mine"), "mine")
    assert found is not None
    assert found.readable == (str(machine / "home" / "mine"),)


def test_the_cache_comes_before_the_path(machine: Path) -> None:
    here = machine / "lib" / "node_modules" / "mine"
    program(here / "mine.js", "")
    (here / "package.json").write_text(json.dumps({"version": "0.9"}))
    (machine / "bin" / "mine").symlink_to(here / "mine.js")
    found = install.find("mine", "mine")
    assert found is not None
    assert (found.program, found.version) == (str(machine / "bin" / "mine"), "0.9")
    assert found.readable == tuple(sorted((str(machine / "bin"), str(here.parent))))
    cached = install.cache() / "mine/node_modules/.bin/mine"
    program(cached, "")
    found = install.find("mine", "mine")
    assert found is not None
    assert found.program == str(cached)
