"""The broker on PostgreSQL, on a real server, does what every broker must do."""

from __future__ import annotations

from tests.unit.brokers.conformance import Conformance


class TestPostgresBroker(Conformance):
    pass
