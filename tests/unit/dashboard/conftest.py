"""A world for each test, see :mod:`tests.unit.behaviour.world`."""

from tests.unit.behaviour.conftest import world

__all__ = ["world"]
