"""Copies all objects of one storage to another; a repeated copy writes only what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from deployments.storage.base import MissingObjectError, Storage, StorageError, StoredObject

_AT_ONCE = 8


@dataclass
class Inventory:
    """How many objects there are to copy, and their bytes."""

    objects: int = 0
    bytes: int = 0


@dataclass
class Outcome:
    """Objects copied, those that were there already, those removed from the source, and a sentence for each failure."""

    copied: int = 0
    present: int = 0
    removed: int = 0
    failures: list[str] = field(default_factory=list)


class Transfer:
    """One run from a source to a target.

    What is written is read back and compared. An object of the right size at the target counts as copied, as objects
    are never there in part; where it is to be removed from the source, or on request, that one is read and compared
    too. It can be stopped at any time: another run goes on with what is missing.

    Args:
        source: Where from.
        target: Where to.
        compare: Whether to read and compare what is at the target already.
        remove: Whether to remove each object from the source once it is at the target.
    """

    def __init__(self, source: Storage, target: Storage, *, compare: bool = False, remove: bool = False) -> None:
        self._source = source
        self._target = target
        self._compare = compare or remove
        self._remove = remove
        self._places = asyncio.Semaphore(_AT_ONCE)
        self.outcome = Outcome()

    async def check(self) -> None:
        """Make sure that the target takes objects, and that it is not the source under another name.

        Raises:
            StorageError: The message is one line.
        """
        await self._target.check()
        probe = f"0001/01/01/{uuid4()}.png"
        await self._target.write(probe, b"probe")
        try:
            if await self._source.exists(probe):
                raise StorageError("The source and the target are the same place.")
        finally:
            await self._target.delete(probe)

    async def take_inventory(self) -> Inventory:
        """Count what the source has.

        Raises:
            StorageError: It could not be listed.
        """
        found = Inventory()
        async for page in self._source.pages():
            found.objects += len(page)
            found.bytes += sum(each.size for each in page)
        return found

    async def run(self, on_object: Callable[[StoredObject], None] = lambda _: None) -> Outcome:
        """Copy all objects. The outcome lists those that failed; they do not stop the others.

        Args:
            on_object: Called after each object.

        Raises:
            StorageError: The source could not be listed.
        """
        async for page in self._source.pages():
            async with asyncio.TaskGroup() as tasks:
                for each in page:
                    tasks.create_task(self._move(each, on_object))
        return self.outcome

    async def _move(self, found: StoredObject, on_object: Callable[[StoredObject], None]) -> None:
        async with self._places:
            try:
                if await self._copy(found) and self._remove:
                    await self._source.delete(found.key)
                    self.outcome.removed += 1
            except StorageError as error:
                self.outcome.failures.append(str(error))
            on_object(found)

    async def _copy(self, found: StoredObject) -> bool:
        """Copy an object; False if the source deleted it meanwhile."""
        is_there = await self._size_at_target(found.key) == found.size
        if is_there and not self._compare:
            self.outcome.present += 1
            return True
        try:
            content = await self._source.read(found.key)
        except MissingObjectError:
            return False
        if is_there and await self._is_equal(found.key, content):
            self.outcome.present += 1
            return True
        await self._target.write(found.key, content)
        if not await self._is_equal(found.key, content):
            await self._target.delete(found.key)  # the next run would take it for copied
            raise StorageError(f"The image file {found.key} is not the same at the target; it was not copied.")
        self.outcome.copied += 1
        return True

    async def _size_at_target(self, key: str) -> int | None:
        try:
            return await self._target.size(key)
        except MissingObjectError:
            return None

    async def _is_equal(self, key: str, content: bytes) -> bool:
        return await self._target.read(key) == content
