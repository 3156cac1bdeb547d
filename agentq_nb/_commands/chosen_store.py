"""Which file a command of the shell means."""

from __future__ import annotations

import os
from pathlib import Path

from agentq_nb._core.paths import DEFAULT_NAME, SUFFIX, VARIABLE
from agentq_nb._store.running_host import find_host
from agentq_nb.errors import StoreError, StoreNotBegun


def existing_store(asked: str | None, folder: Path | None = None) -> Path:
    """Return the file asked for, else that of the environment variable, else the only one in the folder.

    Of several in the folder it is the one on which a host runs.

    Raises StoreNotBegun if it does not exist yet, and StoreError for a wrong path or several files.
    """
    folder = folder or Path.cwd()
    named = asked or os.environ.get(VARIABLE)
    if named:
        path = Path(os.path.expanduser(named)).absolute()
        if path.is_file():
            return path
        if asked:
            raise StoreError(f"There is no file {path}. Check the path that --store gives.", code="missing")
        raise StoreNotBegun(f"There is no {path} yet, which {VARIABLE} names. %agentq start makes it.")
    found = sorted({*folder.glob(f"*{SUFFIX}"), *folder.glob(DEFAULT_NAME)})
    if len(found) == 1:
        return found[0]
    if len(running := [path for path in found if find_host(path) is not None]) == 1:
        return running[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise StoreError(f"There are several files here: {names}. Say which one: --store PATH", code="missing")
    raise StoreNotBegun(
        f"There is no *{SUFFIX} in {folder} yet. %agentq start in a notebook makes one beside it. "
        f"For one that is elsewhere: --store PATH"
    )
