"""A world for each test, see :mod:`tests.unit.runtime.world`."""

from tests.unit.runtime.conftest import new_world, slow_world, standing_clock, world

__all__ = ["new_world", "slow_world", "standing_clock", "world"]
