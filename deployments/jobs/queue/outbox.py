"""The outbox: calls of webhooks that are due because a job has ended, until they are delivered or given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import uuid4

from sqlalchemy import RowMapping, insert, select, update

from deployments.jobs.database.tables import webhooks
from deployments.jobs.records.jobs import Record
from deployments.jobs.transaction.operations import Operations, changes, reads_clock


class WebhookState(StrEnum):
    """Where the call that a job's client wants stands."""

    WAITING = "waiting"
    """The job has not ended."""
    DUE = "due"
    DELIVERED = "delivered"
    DEAD = "dead"
    """All attempts failed."""


class WebhookStatus(Record):
    """How the call that a job's client wants fares."""

    state: WebhookState
    attempts: int = 0
    last_error: str = ""
    """Why the newest attempt failed; empty where none did."""


class Delivery(Record):
    """A claimed call: nobody else makes it until its lease lapses."""

    id: str
    job_id: str
    url: str
    attempt: int
    """From 1; the fence of its outcome."""


class Outbox(Operations):
    """The calls of webhooks."""

    async def put(self, jobs: Sequence[RowMapping]) -> None:
        """Note the calls that are due for jobs which end in this transaction, where their clients want one."""
        from_now = {"state": WebhookState.DUE, "due_at": self.transaction.now}
        due = [
            {"id": str(uuid4()), "job_id": job["id"], "url": job["webhook_url"], **from_now}
            for job in jobs
            if job["webhook_url"] is not None
        ]
        if due:
            await self.connection.execute(insert(webhooks), due)

    @reads_clock
    async def seconds_to_next(self) -> float | None:
        """Return in how many seconds the next call is due; None where none is."""
        times = select(webhooks.c.due_at).where(webhooks.c.state == WebhookState.DUE).order_by(webhooks.c.due_at)
        due: datetime | None = await self.connection.scalar(times.limit(1))
        return None if due is None else (due - self.transaction.now).total_seconds()

    @changes
    async def claim(self, most: int, lease: timedelta) -> list[Delivery]:
        """Claim up to ``most`` calls that are due; nobody else can claim them until the lease has lapsed."""
        due = (
            select(webhooks.c.id)
            .where(webhooks.c.state == WebhookState.DUE, webhooks.c.due_at <= self.transaction.now)
            .order_by(webhooks.c.due_at)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        ids = (await self.connection.scalars(due)).all()
        # Until the lease has lapsed it is due to nobody else.
        taken = await self.connection.execute(
            update(webhooks)
            .where(webhooks.c.id.in_(ids))
            .values(attempts=webhooks.c.attempts + 1, due_at=self.transaction.now + lease)
            .returning(webhooks)
        )
        return [
            Delivery(id=row["id"], job_id=row["job_id"], url=row["url"], attempt=row["attempts"])
            for row in taken.mappings()
        ]

    @changes
    async def delivered(self, delivery: Delivery) -> None:
        """Note that a call was made; nothing where its lease had lapsed and somebody else has claimed it."""
        await self._end(delivery, state=WebhookState.DELIVERED, last_error="")

    @changes
    async def failed(self, delivery: Delivery, reason: str, pause: timedelta | None) -> None:
        """Note that a call failed, and is due again after a pause or given up (None); else as :meth:`delivered`."""
        if pause is None:
            await self._end(delivery, state=WebhookState.DEAD, last_error=reason)
        else:
            await self._end(delivery, due_at=self.transaction.now + pause, last_error=reason)

    async def status_of(self, job_ids: list[str]) -> dict[str, WebhookStatus]:
        """Return the states of the calls of jobs that have ended, by job id."""
        chosen = select(webhooks).where(webhooks.c.job_id.in_(job_ids)).order_by(webhooks.c.number)
        found = await self.connection.execute(chosen)
        return {
            row["job_id"]: WebhookStatus(state=row["state"], attempts=row["attempts"], last_error=row["last_error"])
            for row in found.mappings()
        }

    async def _end(self, delivery: Delivery, **changes: object) -> None:
        await self.connection.execute(
            update(webhooks)
            .where(
                webhooks.c.id == delivery.id,
                webhooks.c.attempts == delivery.attempt,
                webhooks.c.state == WebhookState.DUE,
            )
            .values(**changes)
        )
