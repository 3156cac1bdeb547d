"""Recognise the limits of providers of models: which limit it is, and when work can continue.

An agent's prompt that met one raises ``RateLimited``, which pauses the message's queue, or, where money is needed,
``PromptFailed`` with the code ``"billing"``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentq_nb._core.clock import machine_zone
from agentq_nb._core.safe_text import safe
from agentq_nb._policies.provider_limits import LimitKind, ProviderLimit, exception_limit
from agentq_nb.errors import AgentqError, PromptFailed, RateLimited

if TYPE_CHECKING:
    from agentq_nb._policies.provider_limits.recognition import recognise

__all__ = ["LimitKind", "ProviderLimit", "exception_limit", "prompt_error", "recognise"]

_LONGEST_REPORT = 500  # characters of what the provider reported that are shown

_WHAT_HAPPENED = {
    "usage-window": "has used up what its plan allows",
    "requests": "asked its language model too often",
    "tokens": "sent its language model too many tokens",
    "overloaded": "got no answer, since its language model is overloaded",
    "billing": "needs money for its language model",
}


def __getattr__(name: str) -> Any:
    if name == "recognise":  # its patterns take a while to compile
        from agentq_nb._policies.provider_limits.recognition import recognise

        return recognise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def prompt_error(limit: ProviderLimit, agent: str, session_id: str, report: str) -> AgentqError:
    """Return the error for a prompt of ``agent`` that met ``limit``. ``report`` is what its provider said."""
    said = safe(" ".join(report.split()), _LONGEST_REPORT).rstrip(".") or "it gave no reason"
    text = f"Agent '{agent}' {_WHAT_HAPPENED[limit.kind]}: {said}."
    facts = {"agent": agent, "session_id": session_id, "kind": limit.kind, "report": said}
    if not limit.pauses:
        ends = f" The provider says that this ends at {_shown(limit.resume_at)}." if limit.resume_at else ""
        advice = f"{text}{ends} Waiting does not help by itself: add credits, or raise the limit of spending, there."
        return PromptFailed(advice, code="billing", metadata=facts)
    if limit.resume_at is None:
        error = RateLimited(f"{text} It is not known when it can continue.")
    else:
        error = RateLimited(f"{text} It can continue at {_shown(limit.resume_at)}.", until=limit.resume_at)
    error.metadata |= facts
    return error


def report_of(error: BaseException) -> str:
    """Return what the provider said, of an error that an agent has raised, perhaps one of :func:`prompt_error`."""
    if not isinstance(error, AgentqError):
        return f"{type(error).__name__}: {error}"
    return str(error.metadata.get("report") or error.message)


def limit_of(error: BaseException) -> ProviderLimit | None:
    """Return the limit that an exception reports now, on this machine."""
    return exception_limit(error, now=datetime.now(UTC), tz=machine_zone(os.environ))


def _shown(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
