"""What users give as a command or an environment, checked before anything is started."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from types import EllipsisType

from agentq_nb.errors import ValidationFailed
from agentq_nb.number_options import seconds


def checked_command(command: str | Sequence[str]) -> list[str]:
    """The words to run: a str is a shell command, a sequence a program with its arguments."""
    if isinstance(command, str):
        words = ["/bin/sh", "-c", command]
    else:
        # Through the shell, so that a program that is not there gives exit code 127 under any isolation.
        words = ["/bin/sh", "-c", 'exec "$@"', "sh", *command]
        if not command or not command[0]:
            raise ValidationFailed(
                "A command given as a list must name a program first, as in ['ls', '-l']; nothing was run."
            )
    for word in words:
        if not _plain(word):
            raise ValidationFailed(
                "A command must be a str or a list of str without NUL characters and lone surrogates; nothing was "
                "run. Not "
                f"so: {word!r:.100}"
            )
    return words


def checked_environment(env: Mapping[str, str] | EllipsisType | None) -> dict[str, str]:
    """A copy of ``env``. What is wrong with it is told without its values."""
    if env is None or env is ...:
        return {}
    for name, value in env.items():
        if not _plain(name) or not name or "=" in name:
            raise ValidationFailed(f"env has a name that no environment variable can have: {name!r:.100}.")
        if not _plain(value):
            raise ValidationFailed(f"env[{name!r}] must be a str without NUL characters, as in every environment.")
    return dict(env)


def checked_prompt(text: str) -> str:
    """A prompt. Half a character is refused: it cannot be written down, and some agents never answer a frame with one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValidationFailed(
            f"The prompt has a lone surrogate (half a character) at position {error.start}: nothing was sent. Text that "
            f"was decoded with errors='surrogateescape' has them. Replace it: text.encode('utf-8', 'replace').decode()"
        ) from None
    return text


def checked_public(public_env: Collection[str]) -> Collection[str]:
    """The names in ``public_env``. A single str is refused: any name that is a part of it would count as public."""
    if isinstance(public_env, (str, bytes)):
        raise ValidationFailed(f"public_env must be a list of names, like [{public_env!r:.100}].")
    return public_env


def checked_timeout(timeout: float | None) -> float | None:
    """Seconds, or None for no limit."""
    number = seconds("timeout", timeout)
    if number is not None and number <= 0:
        raise ValidationFailed(f"timeout is a number of seconds above 0, or None for no limit; not {timeout!r}.")
    return number


def _plain(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
