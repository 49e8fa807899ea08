"""The part of the job store for calls to clients' webhooks."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.queue.outbox import Delivery, Outbox, next_due
from deployments.jobs.transaction.store_part import StorePart


class StoreDeliveries(StorePart):
    """The calls that are to be made."""

    async def claim(self, most: int, lease: timedelta) -> list[Delivery]:
        """Take up to ``most`` calls that are due; they are nobody else's until the lease has lapsed."""
        return await self._change(lambda change: Outbox(change).claim(most, lease))

    async def made(self, delivery: Delivery) -> None:
        """Note that a call was made; nothing where its lease had lapsed and somebody else has it."""
        await self._change(lambda change: Outbox(change).delivered(delivery))

    async def failed(self, delivery: Delivery, reason: str, pause: timedelta | None) -> None:
        """Note that a call failed, and is due again after a pause, or given up (None); else as :meth:`made`."""
        await self._change(lambda change: Outbox(change).failed(delivery, reason, pause))

    async def seconds_to_next(self) -> float | None:
        """Return in how many seconds the next call is due; None where none is."""

        async def work(connection: AsyncConnection) -> float | None:
            due = await next_due(connection)
            return None if due is None else (due - await self._now(connection)).total_seconds()

        return await self._database.read(work)
