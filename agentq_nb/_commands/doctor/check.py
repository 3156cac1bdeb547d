"""The result of one check of doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """The result of one check; ``advice`` says what to do, if anything."""

    what: str
    state: Literal["ok", "notice", "problem"]
    found: str
    advice: str = ""
