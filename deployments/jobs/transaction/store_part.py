"""What the parts of the job store are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.database import Database
from deployments.jobs.transaction.change import Change

Result = TypeVar("Result")


class Transact(Protocol):
    """Carries out what changes jobs, in a transaction."""

    async def __call__(self, work: Callable[[Change], Awaitable[Result]]) -> Result:
        """Return what the work returns."""


class StorePart:
    """A part of :class:`JobStore`; what holds there holds here.

    Args:
        database: For what only reads.
        change: The store's transactions.
        now: The store's time.
    """

    def __init__(
        self, database: Database, change: Transact, now: Callable[[AsyncConnection], Awaitable[datetime]]
    ) -> None:
        self._database = database
        self._change = change
        self._now = now
