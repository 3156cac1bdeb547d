"""A world for each test, see :mod:`tests.unit.behaviour.world`."""

from tests.unit.behaviour.conftest import anyio_backend, world

__all__ = ["anyio_backend", "world"]
