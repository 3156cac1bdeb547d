"""Run git outside the sandbox: in the user's repositories, and in copies that no agent can write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import anyio

from agentq_nb.agent_os.repositories.repository import without_password
from agentq_nb.errors import RepositoryError

_OF_ANOTHER_REPOSITORY = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
"""Variables that point git at one repository: a kernel that was started by a hook of git has them."""

_OPTIONS = {
    "advice.detachedHead": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "fetch.recurseSubmodules": "false",
    "fetch.writeCommitGraph": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
}
"""Nothing but what was asked for is done: no hook runs, no submodule is fetched, nothing is repacked."""

_LONGEST_COMPLAINT = 2000


async def host_git(
    *words: str,
    at: Path | str,
    doing: str,
    options: Sequence[tuple[str, str]] = (),
    input: str | None = None,
    stdin: BinaryIO | None = None,
    accept: Sequence[int] = (0,),
) -> tuple[int, str]:
    """Run git in ``at``; return its exit code and what it printed.

    :param doing: the beginning of the error: "The repository x could not be read".
    :param input: text for its stdin; or ``stdin``, an open file.
    :param accept: exit codes that are no error.

    Raises ``RepositoryError`` for any other exit code.
    """
    settings = [part for name, value in (*_OPTIONS.items(), *options) for part in ("-c", f"{name}={value}")]
    try:
        done = await anyio.run_process(
            ["git", *settings, *words],
            # An empty one if there is none: git must not read the kernel's.
            input=(input or "").encode("utf-8", "surrogateescape") if stdin is None else None,
            stdin=stdin,
            cwd=at,
            env=_environment(),
            check=False,
            start_new_session=True,  # interrupting a cell must not end it halfway
        )
    except FileNotFoundError:
        if not Path(at).is_dir():
            raise RepositoryError(f"{doing}: there is no folder {at}.", code="not_found") from None
        raise RepositoryError(
            f"{doing}: git is not installed. Install it (apt install git) and try again.", code="git_missing"
        ) from None
    except NotADirectoryError:
        raise RepositoryError(f"{doing}: {at} is not a folder.", code="not_found") from None
    if done.returncode not in accept:
        said = without_password(done.stderr.decode(errors="replace").strip())[-_LONGEST_COMPLAINT:]
        raise RepositoryError(
            f"{doing}. git said: {said or f'exit code {done.returncode}'}", metadata={"exit_code": done.returncode}
        )
    return done.returncode, done.stdout.decode("utf-8", "surrogateescape")


def _environment() -> dict[str, str]:
    """Return this process's variables, so that the user's credentials and proxies are used, but nothing is asked."""
    kept = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_REPOSITORY}
    return kept | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
