"""Recognise the limits of providers of models: which limit it is, and when work can go on."""

from agentq_nb._policies.provider_limits import LimitKind, ProviderLimit, recognise

__all__ = ["LimitKind", "ProviderLimit", "recognise"]
