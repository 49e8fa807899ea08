"""The outbox: calls that are due because a job has ended, until they are delivered or given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import uuid4

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.tables import webhooks
from deployments.jobs.records.jobs import Record
from deployments.jobs.transaction.change import Change


class WebhookState(StrEnum):
    """Where the call that a job's client wants stands."""

    WAITING = "waiting"
    """The job has not ended."""
    DUE = "due"
    DELIVERED = "delivered"
    DEAD = "dead"
    """It was given up."""


class WebhookStatus(Record):
    """How the call that a job's client wants fares."""

    state: WebhookState
    attempts: int = 0
    last_error: str = ""
    """Why the newest attempt failed; empty where none did."""


class Delivery(Record):
    """The right to make a call, until its lease lapses."""

    id: str
    job_id: str
    url: str
    attempt: int
    """From 1; the fence of what comes of it."""


@dataclass(frozen=True)
class Outbox:
    """What becomes of calls, within one transaction."""

    change: Change

    async def put(self, jobs: Sequence[RowMapping]) -> None:
        """Note the calls that are due for jobs which end in this transaction, where their clients want one."""
        from_now = {"state": WebhookState.DUE, "due_at": self.change.now}
        due = [
            {"id": str(uuid4()), "job_id": job["id"], "url": job["webhook_url"], **from_now}
            for job in jobs
            if job["webhook_url"] is not None
        ]
        if due:
            await self.change.connection.execute(insert(webhooks), due)

    async def claim(self, most: int, lease: timedelta) -> list[Delivery]:
        """See :meth:`StoreDeliveries.claim`."""
        due = (
            select(webhooks.c.id)
            .where(webhooks.c.state == WebhookState.DUE, webhooks.c.due_at <= self.change.now)
            .order_by(webhooks.c.due_at)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        ids = (await self.change.connection.scalars(due)).all()
        # Until the lease has lapsed it is due to nobody else.
        taken = await self.change.connection.execute(
            update(webhooks)
            .where(webhooks.c.id.in_(ids))
            .values(attempts=webhooks.c.attempts + 1, due_at=self.change.now + lease)
            .returning(webhooks)
        )
        return [
            Delivery(id=row["id"], job_id=row["job_id"], url=row["url"], attempt=row["attempts"])
            for row in taken.mappings()
        ]

    async def delivered(self, delivery: Delivery) -> None:
        """See :meth:`JobStore.delivered`."""
        await self._end(delivery, state=WebhookState.DELIVERED, last_error="")

    async def failed(self, delivery: Delivery, reason: str, pause: timedelta | None) -> None:
        """See :meth:`StoreDeliveries.failed`."""
        if pause is None:
            await self._end(delivery, state=WebhookState.DEAD, last_error=reason)
        else:
            await self._end(delivery, due_at=self.change.now + pause, last_error=reason)

    async def _end(self, delivery: Delivery, **changes: object) -> None:
        await self.change.connection.execute(
            update(webhooks)
            .where(
                webhooks.c.id == delivery.id,
                webhooks.c.attempts == delivery.attempt,
                webhooks.c.state == WebhookState.DUE,
            )
            .values(**changes)
        )


async def next_due(connection: AsyncConnection) -> datetime | None:
    """Return when the next call is due; None where none is."""
    times = select(webhooks.c.due_at).where(webhooks.c.state == WebhookState.DUE).order_by(webhooks.c.due_at)
    return await connection.scalar(times.limit(1))


async def webhooks_of(connection: AsyncConnection, job_ids: list[str]) -> dict[str, WebhookStatus]:
    """Return how the calls of jobs that have ended fare, by job id."""
    found = await connection.execute(select(webhooks).where(webhooks.c.job_id.in_(job_ids)).order_by(webhooks.c.number))
    return {
        row["job_id"]: WebhookStatus(state=row["state"], attempts=row["attempts"], last_error=row["last_error"])
        for row in found.mappings()
    }
