"""A VM's actions on its files."""

from __future__ import annotations

from agentq_nb._actor.actor import action
from agentq_nb.agent_os.sandbox.workspace import FileName
from agentq_nb.agent_os.values import FileInfo
from agentq_nb.agent_os.vm_base import VmBase


class FileActions(VmBase, action_timeout=None):
    """Actions on the files of a VM.

        await vm.write_file("notes/todo.txt", "buy milk")           # makes the folder
        text = (await vm.read_file("notes/todo.txt")).decode()
        names = [file.name for file in await vm.list_dir("notes")]

    Paths are relative to the VM's folder, or to its repository if it has one; or they start with ``/home/user``. Files
    survive restarts. No path leads out of the folder, not even by a link.
    """

    @action(while_ending=True)
    async def read_file(self, path: FileName) -> bytes:
        """Return the bytes of a file, 256 MiB at most. Raises ``WorkspaceError``, as do all file actions."""
        return await self.in_thread((await self._files()).read, path)

    @action(while_ending=True)
    async def write_file(self, path: FileName, data: bytes | str) -> None:
        """Write a file atomically (text as UTF-8), with missing parent folders. The contents are never logged."""
        await self.in_thread((await self._files()).write, path, data)

    @action(while_ending=True)
    async def list_dir(self, path: FileName = ".") -> list[FileInfo]:
        """Return the contents of a folder, sorted by name."""
        return await self.in_thread((await self._files()).list_dir, path)

    @action(while_ending=True)
    async def make_dir(self, path: FileName) -> None:
        """Create a folder and its missing parents."""
        await self.in_thread((await self._files()).make_dir, path)

    @action(while_ending=True)
    async def stat(self, path: FileName) -> FileInfo:
        """Return kind, size in bytes and time of a file, folder or link."""
        return await self.in_thread((await self._files()).stat, path)

    @action(while_ending=True)
    async def move(self, source: FileName, target: FileName) -> None:
        """Rename a file, folder or link; an existing file ``target`` is replaced."""
        await self.in_thread((await self._files()).move, source, target)

    @action(while_ending=True)
    async def delete(self, path: FileName, recursive: bool = False) -> None:
        """Delete a file, a link, an empty folder, or with ``recursive`` any folder."""
        await self.in_thread((await self._files()).delete, path, recursive)

    @action(while_ending=True)
    async def exists(self, path: FileName) -> bool:
        """Whether the path exists."""
        return await self.in_thread((await self._files()).exists, path)
