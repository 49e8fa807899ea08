"""Where image bytes are kept."""

from __future__ import annotations

import re
from typing import Protocol

_KEY = re.compile(r"\d{4}/\d{2}/\d{2}/[0-9a-f-]{36}\.[a-z]+", re.ASCII)


class StorageError(Exception):
    """The image store failed."""

    status = 503

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class StorageFullError(StorageError):
    """The image store is full."""

    status = 507


class MissingObjectError(StorageError):
    """There is no such image file."""

    status = 404


class InvalidKeyError(StorageError):
    """Not the key of an image file."""

    status = 400


class Storage(Protocol):
    """Keeps bytes by key. Keys are ``YYYY/MM/DD/<image id>.<extension>``; an object is whole or not there."""

    async def write(self, key: str, content: bytes) -> None:
        """Keep the content durably; an object of that key is replaced.

        Raises:
            InvalidKeyError: The key has another form.
            StorageFullError: There is no room.
            StorageError: It could not be written; trying again is harmless.
        """

    async def read(self, key: str) -> bytes:
        """Return the content.

        Raises:
            InvalidKeyError: The key has another form.
            MissingObjectError: There is no such object.
            StorageError: It could not be read.
        """

    async def size(self, key: str) -> int:
        """Return the content's length in bytes; raises what ``read`` raises."""

    async def exists(self, key: str) -> bool:
        """Whether there is such an object.

        Raises:
            InvalidKeyError: The key has another form.
            StorageError: The store could not be asked.
        """

    async def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error.

        Raises:
            InvalidKeyError: The key has another form.
            StorageError: It could not be removed.
        """


def check_key(key: str) -> str:
    """Return the key if it has the form of one, so that none leads out of the store.

    Raises:
        InvalidKeyError: It has not.
    """
    if not _KEY.fullmatch(key):
        raise InvalidKeyError
    return key
