"""Validate the path of a log before anything is created, since DuckDB treats some characters specially."""

from __future__ import annotations

import os
import re
from pathlib import Path

from agentq_nb._core.redaction import without_passwords
from agentq_nb.errors import StoreError

_LONGEST_SUFFIX = ".damaged-20260101-000000-000000.checkpoint.new"
"""The longest suffix that is ever added to the name of a log, or of a copy, for a file beside it."""

_LONGEST_INSIDE = "/log.duckdb.wal"
"""The longest path below such a name, in the folder where damage is examined."""

_SPECIAL = {
    "?": "DuckDB takes what follows it for options",
    "\\": "DuckDB takes it for the end of a folder's name",
}

_OTHER_FILE = "choose another file with store=PATH (%agentq start --store PATH)"


def real_path(path: Path) -> Path:
    """Return the real path of a log, with links resolved. Raises StoreError if a log cannot be there, saying why."""
    _check_encoding(path, _OTHER_FILE)
    real = Path(os.path.realpath(path))
    check_path(real)
    return real


def check_path(path: Path, instead: str = _OTHER_FILE) -> None:
    """Raise StoreError if DuckDB or the file system would refuse ``path`` or a file that is kept beside it.

    ``path`` is absolute. ``instead`` names an alternative to renaming.
    """
    _check_encoding(path, instead)
    _check_address(path, instead)
    _check_characters(path, instead)
    _check_length(path, instead)


def _check_encoding(path: Path, instead: str) -> None:
    try:
        text = str(path).encode()
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        # Python decodes each byte that is not UTF-8 as one of these.
        is_byte = 0xDC80 <= ord(character) <= 0xDCFF
        name = f"byte 0x{ord(character) - 0xDC00:02x}" if is_byte else f"lone surrogate U+{ord(character):04X}"
        said = f"the {name} in it: it is not UTF-8, and DuckDB takes nothing else"
        raise _bad_name(path, said, character, instead) from None
    if b"\0" in text:
        raise _bad_name(path, "the character NUL in it: no name can have it", "\0", instead)


def _check_address(path: Path, instead: str) -> None:
    folders = [folder for folder in path.parents if folder.name.endswith(":")]
    said = next((folder.name for folder in reversed(folders) if not os.path.lexists(folder)), None)
    if said is None and (found := re.match(r"md:|:memory:$", path.name)):
        said = found[0]
    if said is not None:
        shown = without_passwords(str(path))
        raise StoreError(
            f"{shown} looks like an address ({said}). The queues are kept in a file on a local disk: {instead}.",
            code="bad_name",
            metadata={"path": shown},
        )


def _check_characters(path: Path, instead: str) -> None:
    for character, meaning in _SPECIAL.items():
        if character in str(path):
            raise _bad_name(path, f'the character "{character}" in it: {meaning}', character, instead)


def _bad_name(path: Path, said: str, character: str, instead: str) -> StoreError:
    shown = without_passwords(str(path))
    return StoreError(
        f"{shown} cannot be used for a database because of {said}. Rename the file or the folder, or {instead}.",
        code="bad_name",
        metadata={"path": shown, "character": character},
    )


def _check_length(path: Path, instead: str) -> None:
    folder = path.parent
    longest_name = _limit(folder, "PC_NAME_MAX", 255) - len(_LONGEST_SUFFIX)
    # The limit of a whole path includes the zero byte at its end.
    longest_path = _limit(folder, "PC_PATH_MAX", 4096) - 1 - len(_LONGEST_SUFFIX) - len(_LONGEST_INSIDE)
    for what, length, limit in (
        ("name", len(os.fsencode(path.name)), longest_name),
        ("path", len(os.fsencode(path)), longest_path),
    ):
        if length > limit:
            raise StoreError(
                f"The {what} of {path} is too long: {length} bytes, and {limit} is the limit, since other files are kept "
                f"beside it with longer names. Shorten it, or {instead}.",
                code="name_too_long",
                metadata={"path": str(path), "length": length, "limit": limit},
            )


def _limit(folder: Path, name: str, usual: int) -> int:
    try:
        found = os.pathconf(folder, name)
    except (OSError, ValueError):
        return usual
    return found if found > 0 else usual
