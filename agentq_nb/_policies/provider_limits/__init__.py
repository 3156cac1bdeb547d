"""Recognise the limits of providers of models in what they and their agents report. Pure: no clock, no I/O.

``recognition`` is imported when a report is looked at: its patterns take a while to compile, and most programs never meet
a limit.
"""

from agentq_nb._policies.provider_limits.exceptions import exception_limit
from agentq_nb._policies.provider_limits.provider_limit import LimitKind, ProviderLimit

__all__ = ["LimitKind", "ProviderLimit", "exception_limit"]
