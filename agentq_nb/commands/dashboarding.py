"""The command that shows the host live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentq_nb.commands.scene import Command, Scene, Where


@dataclass(frozen=True, kw_only=True)
class Dashboard(Command):
    """Show the host live: queues, sessions with their transcripts, messages, and buttons to act on them.

    It needs a front end with widgets, such as JupyterLab. When the host stops, a picture of the last state stays.
    """

    name: ClassVar[str] = "dashboard"
    where: ClassVar[Where] = "kernel"
    makes_widgets: ClassVar[bool] = True

    async def run(self, scene: Scene) -> object:
        return scene.dashboard()
