"""A world for each test, see :mod:`tests.unit.runtime.world`."""

from tests.unit.runtime.conftest import slow_world, world

__all__ = ["slow_world", "world"]
