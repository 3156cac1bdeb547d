"""Hypothesis as all tests use it: what a busy machine, or the first run of a fresh checkout, is slow at is no failure."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The first run makes tables of all characters, which counts as slow data.
settings.register_profile("agentq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("agentq")
