"""Carries out what time alone does to pending jobs: pauses end, and jobs expire."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime

from deployments.jobs.store import JobStore

logger = logging.getLogger(__name__)

# Another tracker on the same database may set deadlines that this one does not hear of.
LONGEST_WAIT_SECONDS = 5.0
WAIT_WHILE_BUSY_SECONDS = 0.05


class DeadlineTimer:
    """Calls :meth:`Deadlines.settle` when a deadline has come.

    Args:
        store: The store, open.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._next: datetime | None = None
        self._has_news = asyncio.Event()

    def plan(self, at: datetime) -> None:
        """Note that something will be due."""
        if self._next is None or at < self._next:
            self._has_news.set()

    async def run_forever(self) -> None:
        """Do what is due, again and again."""
        while True:
            self._has_news.clear()
            try:
                wait = await self._settle()
            except Exception:
                logger.exception("What is due could not be done; it will be tried again")
                wait = LONGEST_WAIT_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._has_news.wait()

    async def _settle(self) -> float:
        deadline = await self._store.deadlines.next()
        self._next = deadline.at if deadline else None
        if deadline is None:
            return LONGEST_WAIT_SECONDS
        if deadline.seconds_left <= 0:
            await self._store.deadlines.settle()
            return WAIT_WHILE_BUSY_SECONDS  # there may be more, or what was due is locked by another transaction
        return min(LONGEST_WAIT_SECONDS, deadline.seconds_left)
