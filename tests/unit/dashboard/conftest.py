"""A world for each test, see :mod:`tests.unit.runtime.world`."""

from tests.unit.runtime.conftest import world

__all__ = ["world"]
