"""The property machines over the broker on PostgreSQL: one server for all, and a schema for each example."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.brokers.postgres_setting import PostgresSetting
from tests.unit.brokers.settings import Setting
from tests.unit.properties.test_broker_machine import BrokerMachine
from tests.unit.properties.test_concurrency_machine import ConcurrencyMachine
from tests.unit.properties.test_limits_machine import LimitsMachine
from tests.unit.properties.test_receiver_machine import ReceiverMachine
from tests.unit.properties.test_waiting_machine import WaitingMachine


class OnPostgres:
    """Gives a machine's tests the address of the server."""

    url: str

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def server(cls, postgres_url: str) -> None:
        OnPostgres.url = postgres_url


def settings_of(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


class PostgresBrokerMachine(BrokerMachine):
    def open(self, folder: Path) -> Coroutine[Any, Any, Setting]:
        return PostgresSetting.open(OnPostgres.url)


@pytest.mark.timeout(900)
class TestPostgresBroker(OnPostgres, PostgresBrokerMachine.TestCase):
    settings = settings_of(10, 40)


class PostgresWaitingMachine(WaitingMachine):
    def open(self, folder: Path) -> Coroutine[Any, Any, Setting]:
        return PostgresSetting.open(OnPostgres.url)


@pytest.mark.timeout(900)
class TestPostgresWaiting(OnPostgres, PostgresWaitingMachine.TestCase):
    settings = settings_of(5, 30)


class PostgresReceiverMachine(ReceiverMachine):
    def open(self) -> Setting:
        return self.loop.run_until_complete(PostgresSetting.open(OnPostgres.url))


@pytest.mark.timeout(900)
class TestPostgresReceiver(OnPostgres, PostgresReceiverMachine.TestCase):
    settings = settings_of(8, 30)


class PostgresConcurrencyMachine(ConcurrencyMachine):
    def open(self, folder: Path) -> Setting:
        return self.loop.run_until_complete(PostgresSetting.open(OnPostgres.url))


@pytest.mark.timeout(900)
class TestPostgresConcurrency(OnPostgres, PostgresConcurrencyMachine.TestCase):
    settings = settings_of(4, 25)


class PostgresLimitsMachine(LimitsMachine):
    def open_setting(self, folder: Path) -> Coroutine[Any, Any, Setting]:
        return PostgresSetting.open(OnPostgres.url)


@pytest.mark.timeout(900)
class TestPostgresLimits(OnPostgres, PostgresLimitsMachine.TestCase):
    settings = settings_of(4, 25)
