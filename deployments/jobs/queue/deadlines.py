"""Deadlines of pending jobs: pauses between attempts end, and jobs expire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, select, union_all, update

from deployments.jobs.database.tables import EXPIRES, PAUSES, jobs
from deployments.jobs.queue.endings import end_job
from deployments.jobs.records.jobs import JobState
from deployments.jobs.transaction.operations import Operations, changes, reads_clock

JOBS_AT_ONCE = 100

EXPIRED = "It expired before it could start."


@dataclass(frozen=True)
class Deadline:
    """When something is due, by the store's clock."""

    at: datetime
    seconds_left: float


class Deadlines(Operations):
    """What is due, and when."""

    @reads_clock
    async def next(self) -> Deadline | None:
        """Return when :meth:`settle` has something to do; None where nothing will be due."""
        first = [
            select(column).where(condition).order_by(column).limit(1)
            for condition, column in ((PAUSES, jobs.c.not_before), (EXPIRES, jobs.c.expires_at))
        ]
        found = [await self.connection.scalar(each) for each in first]
        at = min((time for time in found if time is not None), default=None)
        return None if at is None else Deadline(at, (at - self.transaction.now).total_seconds())

    @changes
    async def settle(self) -> None:
        """Put jobs whose pause is over back into their lanes, and end those that have expired; some at a time.

        For a transaction that has locked no lane yet. The lanes are booked.
        """
        ids = await self._due()
        if not ids:
            return
        found = await self.connection.execute(
            select(jobs).where(jobs.c.id.in_(ids)).order_by(jobs.c.number).with_for_update(skip_locked=True)
        )
        for row in found.mappings().all():
            if row["state"] == JobState.PENDING:
                await self._settle(row)
        await self.transaction.ledger.book_lanes()

    async def _due(self) -> Sequence[str]:
        due = [
            select(jobs.c.id).where(condition, column <= self.transaction.now).order_by(column).limit(JOBS_AT_ONCE)
            for condition, column in ((PAUSES, jobs.c.not_before), (EXPIRES, jobs.c.expires_at))
        ]
        parts = (select(each.subquery().c.id) for each in due)
        return (await self.connection.scalars(union_all(*parts))).all()

    async def _settle(self, row: RowMapping) -> None:
        now = self.transaction.now
        if row["expires_at"] is not None and row["expires_at"] <= now:
            await end_job(self.transaction, row, JobState.FAILED, EXPIRED)
        elif row["not_before"] is not None and row["not_before"] <= now:
            changed = await self.connection.execute(
                update(jobs).where(jobs.c.id == row["id"]).values(not_before=None).returning(jobs)
            )
            self.transaction.ledger.waits(changed.mappings().one())
