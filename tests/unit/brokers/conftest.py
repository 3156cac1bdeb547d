"""Fixtures of several files."""

from tests.unit.brokers.limited import limited as limited
from tests.unit.brokers.limited_hosts import join as join
from tests.unit.brokers.limited_hosts import setting as setting
