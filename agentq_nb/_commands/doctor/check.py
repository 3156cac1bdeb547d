"""One thing that doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``advice`` says what to do where something is to be done."""

    what: str
    state: Literal["ok", "notice", "problem"]
    found: str
    advice: str = ""
