"""Where image bytes are kept."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from deployments.errors import CyberImageError

_T = TypeVar("_T")

# An image file, or a thumbnail of one: its longest side stands before the extension.
_KEY = re.compile(r"\d{4}/\d{2}/\d{2}/[0-9a-f-]{36}(\.[1-9]\d{1,3})?\.[a-z]+", re.ASCII)


class StorageError(CyberImageError):
    """The image store failed."""

    status = 503


class StorageFullError(StorageError):
    """The image store is full."""

    status = 507


class MissingObjectError(StorageError):
    """There is no such image file."""

    status = 404


class InvalidKeyError(StorageError):
    """Not the key of an image file."""

    status = 400


@dataclass(frozen=True)
class StoredObject:
    """What a listing says of an object: its key, its length in bytes, and when it was written."""

    key: str
    size: int
    modified: datetime


class Storage(ABC):
    """Keeps bytes by key; an object is whole or not there.

    Keys are ``YYYY/MM/DD/<image id>.<extension>`` and, of thumbnails, ``YYYY/MM/DD/<image id>.<pixels>.webp``. What a
    subclass does by ``_check``, ``_write``, ``_read``, ``_size`` and ``_delete`` may block, and runs on threads.

    Args:
        threads: The threads; None for those of the event loop.
    """

    def __init__(self, threads: ThreadPoolExecutor | None = None) -> None:
        self._threads = threads

    async def check(self) -> None:
        """Make sure, by writing and removing something, that objects can be kept here.

        Raises:
            StorageError: They cannot; the message is one line and may name the place: it is for the operator.
        """
        await self._run(self._check)

    async def write(self, key: str, content: bytes) -> None:
        """Keep the content durably; an object of that key is replaced.

        Raises:
            InvalidKeyError: The key has another form.
            StorageFullError: There is no room.
            StorageError: It could not be written; trying again is harmless.
        """
        await self._run(self._write, check_key(key), content)

    async def read(self, key: str) -> bytes:
        """Return the content.

        Raises:
            InvalidKeyError: The key has another form.
            MissingObjectError: There is no such object.
            StorageError: It could not be read.
        """
        return await self._run(self._read, check_key(key))

    async def read_part(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` up to, not including, ``end``; raises what ``read`` raises.

        Args:
            key: The object's key.
            start: From 0, and less than ``end``.
            end: At most the object's length.
        """
        return await self._run(self._read, check_key(key), start, end)

    async def size(self, key: str) -> int:
        """Return the content's length in bytes; raises what ``read`` raises."""
        return await self._run(self._size, check_key(key))

    async def exists(self, key: str) -> bool:
        """Whether there is such an object.

        Raises:
            InvalidKeyError: The key has another form.
            StorageError: The store could not be asked.
        """
        try:
            await self.size(key)
        except MissingObjectError:
            return False
        return True

    async def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error.

        Raises:
            InvalidKeyError: The key has another form.
            StorageError: It could not be removed.
        """
        await self._run(self._delete, check_key(key))

    @abstractmethod
    def pages(self, after: str = "") -> AsyncIterator[list[StoredObject]]:
        """Iterate over all objects in the order of their keys, some at a time; what is no image's key is left out.

        Args:
            after: Begin with the first key that is greater.

        Raises:
            StorageError: They could not be listed.
        """

    @abstractmethod
    async def sweep_unfinished(self, older_than: timedelta) -> int:
        """Remove what processes that died while writing left behind, and return how many files that were.

        Args:
            older_than: Age of the files to remove; longer than any write takes.

        Raises:
            StorageError: They could not be listed or removed.
        """

    @abstractmethod
    async def public_url(self, key: str) -> str | None:
        """Return an address where anyone may read the object for some time; None where it is read from here only.

        Whether there is such an object is not looked at.

        Raises:
            InvalidKeyError: The key has another form.
            StorageError: The address could not be made.
        """

    async def _run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    @abstractmethod
    def _check(self) -> None: ...

    @abstractmethod
    def _write(self, key: str, content: bytes) -> None: ...

    @abstractmethod
    def _read(self, key: str, start: int = 0, end: int | None = None) -> bytes: ...

    @abstractmethod
    def _size(self, key: str) -> int: ...

    @abstractmethod
    def _delete(self, key: str) -> None: ...


def check_key(key: str) -> str:
    """Return the key if it has the form of one, so that none leads out of the store.

    Raises:
        InvalidKeyError: It has not.
    """
    if not is_key(key):
        raise InvalidKeyError
    return key


def is_key(text: str) -> bool:
    """Whether a text has the form of a key."""
    return _KEY.fullmatch(text) is not None
