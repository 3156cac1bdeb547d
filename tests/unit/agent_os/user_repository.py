"""A repository of a user's with some history, hooks and changes that are not committed, and a record of its every byte."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any


def git(at: Path, *words: str, check: bool = True) -> str:
    """Run git as the user does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"}
    done = subprocess.run(["git", *words], cwd=at, env=environment, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"git {' '.join(words)}: {done.stderr}")
    return done.stdout.strip()


class UserRepository:
    """``<folder>/shop`` on branch main, with a change in the index, one in the work tree, and hooks that leave a trace."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop"
        self.traces = folder / "traces"
        self.traces.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch=main", str(self.path))
        self.git("config", "user.name", "A User")
        self.git("config", "user.email", "user@example.org")
        self.commit("README.md", "# Shop\n", "First")
        self.git("tag", "-a", "v1", "-m", "v1")
        self.commit("src/login.py", "def login():\n    return 'redirect to /undefined'\n", "Login")
        (self.path / ".gitignore").write_text("build/\n")
        self.commit("src/cart.py", "total = 0\n", "Cart")
        (self.path / "README.md").write_text("# Shop\nstaged\n")
        self.git("add", "README.md")
        (self.path / "src" / "cart.py").write_text("total = 1  # not staged\n")
        (self.path / "notes.txt").write_text("not tracked\n")
        for hook in (
            "post-checkout",
            "post-merge",
            "pre-commit",
            "post-commit",
            "reference-transaction",
            "post-update",
        ):
            self._hook(hook)

    def _hook(self, name: str) -> None:
        hook = self.path / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch '{self.traces}/the user hook {name}'\n")
        hook.chmod(0o755)

    def git(self, *words: str, check: bool = True) -> str:
        return git(self.path, *words, check=check)

    def commit(self, name: str, text: str, message: str) -> str:
        """Commit one file; return the commit."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.git("add", "-A")
        self.git("-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")

    def bytes(self) -> dict[str, Any]:
        """Every file and folder with its mode and contents' hash: work tree, index, config, hooks, refs and objects."""
        found: dict[str, Any] = {}
        for folder, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                path = Path(folder) / name
                if path.is_symlink():
                    content: str = os.readlink(path)
                else:
                    content = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path.relative_to(self.path))] = (path.lstat().st_mode, content)
        return found

    def changed_since(self, before: dict[str, Any]) -> list[str]:
        """What is not as before, except for new objects, and what is new below ``refs/heads/agentq``."""
        now = self.bytes()
        added = ("objects/", "refs/heads/agentq", "logs/refs/heads/agentq")
        return sorted(
            name
            for name in now.keys() | before.keys()
            if now.get(name) != before.get(name)
            and not (name not in before and name.startswith(tuple(f".git/{each}" for each in added)))
        )
