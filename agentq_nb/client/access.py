"""How clients get to the host, and what has to be deployed before they use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from agentq_nb.actor import Actor
from agentq_nb.host import Host


class Definitions(Protocol):
    """Actor classes where a person types them. What is there is what runs, though the host may not know it yet."""

    def deployed(self) -> Awaitable[None] | None:
        """What to wait for until the host knows them; None when it does."""
        ...

    def name_of(self, cls: type[Actor]) -> str | None:
        """The name under which a class is registered when it is deployed; None: it is not deployed by itself."""
        ...


class Access:
    """To the host of this process, from wherever a client is used."""

    definitions: Definitions | None = None
    """Set on the class, by a notebook."""

    def __init__(self, host: Callable[[], Host], *, of_user: bool = False) -> None:
        """``of_user``: for code that a person runs, which may have defined classes just now; not for actors."""
        self._host = host
        self._of_user = of_user

    def __call__(self) -> Host:
        """The host as it is. Raises NoHost."""
        return self._host()

    async def ready(self) -> Host:
        """The host, which knows the classes that are defined by now. Raises NoHost."""
        if self._of_user and self.definitions is not None and (deploying := self.definitions.deployed()) is not None:
            await deploying
        return self._host()

    def name_of(self, cls: type[Actor]) -> str | None:
        """The name of a class that is defined but not deployed yet."""
        return self.definitions.name_of(cls) if self._of_user and self.definitions is not None else None
