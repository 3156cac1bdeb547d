"""What doctor found: its checks, and how they are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from agentq_nb._commands.command_context import CommandContext
from agentq_nb._core.safe_text import LONGEST_CELL
from agentq_nb._display.document import Document, shows, tone
from agentq_nb.errors import AgentqError


@dataclass(frozen=True)
class Check:
    """The result of one check; ``advice`` says what to do, if anything."""

    what: str
    state: Literal["ok", "notice", "problem"]
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The checks of one run of doctor."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether no check found a problem."""
        return all(check.state != "problem" for check in self.checks)


async def checked(look: Callable[[CommandContext], Awaitable[list[Check]]], context: CommandContext) -> list[Check]:
    """Return the checks of one group. An error in one group must not prevent the others."""
    try:
        return await look(context)
    except AgentqError as error:
        return [Check(look.__name__.strip("_"), "problem", error.message, error.full_code)]
    except Exception as error:
        return [Check(look.__name__.strip("_"), "problem", f"cannot be checked: {type(error).__name__}: {error}")]


@shows(Diagnosis)
def _diagnosis(diagnosis: Diagnosis) -> Document:
    return Document(
        columns=("what", "state", "found", "what to do"),
        rows=[(check.what, tone(check.state), check.found, check.advice) for check in diagnosis.checks],
        widest=LONGEST_CELL,
    )
