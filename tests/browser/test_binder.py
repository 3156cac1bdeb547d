"""The files in binder/, followed step by step as repo2docker does, in an environment and a home that hold nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import window
from tests.browser.serving import PROJECT, JupyterServer

BINDER = PROJECT / "binder"
FIRST = "notebooks/01_first_queue.ipynb"


def lines(name: str) -> list[str]:
    """The lines of a file in binder/ that mean something."""
    stripped = (line.strip() for line in (BINDER / name).read_text().splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def test_no_file_makes_repo2docker_ignore_the_others() -> None:
    assert {path.name for path in BINDER.iterdir()} == {
        "requirements.txt",
        "runtime.txt",
        "apt.txt",
        "postBuild",
        "start",
    }


def test_the_python_is_one_that_the_package_runs_on() -> None:
    (runtime,) = lines("runtime.txt")
    found = re.fullmatch(r"python-(\d+)\.(\d+)", runtime)
    assert found
    required = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert (int(found[1]), int(found[2])) >= tuple(map(int, required.removeprefix(">=").split(".")))


@pytest.mark.skipif(shutil.which("apt-cache") is None, reason="only Debian and its kin have apt-cache")
def test_what_apt_is_to_install_are_packages_of_debian() -> None:
    for package in lines("apt.txt"):
        told = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True, check=True).stdout
        assert "Candidate: " in told
        assert "Candidate: (none)" not in told


@pytest.mark.timeout(900)
def test_the_binder_files_give_a_jupyterlab_in_which_the_first_notebook_runs(chromium: Browser, tmp_path: Path) -> None:
    checkout, home, environment = tmp_path / "checkout", tmp_path / "home", tmp_path / "environment"
    copy_of_the_checkout(checkout)
    home.mkdir()
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    variables = {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")},
    }

    def follow(*command: str) -> str:
        done = subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    follow(str(programs / "pip"), "install", "--quiet", "--no-cache-dir", "-r", "binder/requirements.txt")
    follow("binder/postBuild")
    assert follow("binder/start", "printf", "%s", "it is started") == "it is started"

    launcher = [str(checkout / "binder/start"), str(programs / "python")]
    with JupyterServer(checkout, home, launcher=launcher) as server, window(chromium, server) as lab:
        news = server.request("GET", "/lab/api/settings/@jupyterlab/apputils-extension:notification")["schema"][
            "properties"
        ]
        assert (news["fetchNews"]["default"], news["checkForUpdates"]["default"]) == ("false", False)
        lab.open(checkout / FIRST)
        lab.run_all(timeout=240)
        assert lab.value("agentq_nb.__file__") == repr(str(checkout / "agentq_nb" / "__init__.py"))
        lab.screenshot("binder")


def copy_of_the_checkout(to: Path) -> None:
    """What git would clone, with what is not committed yet."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (PROJECT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, to / name)
