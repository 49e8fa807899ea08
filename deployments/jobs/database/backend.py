"""What the job store needs to know of a kind of database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class Backend(Protocol):
    """What differs between kinds of databases."""

    readers: AsyncEngine
    """Its transactions read one snapshot."""
    writers: AsyncEngine
    """Its transactions may write; over the same connections as the readers'."""
    writer_turn: AbstractAsyncContextManager[None]
    """Held by each transaction that writes, where only one at a time may."""

    async def now(self, connection: AsyncConnection) -> datetime:
        """Return the time, aware, by a clock that all who use this database share."""

    async def begin_upgrade(self, connection: AsyncConnection) -> None:
        """Exclude other upgrades until the transaction ends.

        Raises:
            UnfitDatabaseError: This version of the database is too old.
        """

    def may_pass(self, error: Exception) -> bool:
        """Whether a transaction that ended with this error may succeed when it is repeated."""

    def reason(self, error: BaseException) -> str:
        """Say why an error came; no statement, no values and no password are in it."""


class UnfitDatabaseError(Exception):
    """The database cannot be used as it is."""
