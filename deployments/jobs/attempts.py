"""How an attempt at a job ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, insert, select, update

from deployments.jobs.change import Change
from deployments.jobs.claims import is_current
from deployments.jobs.records import JobState, NewImage
from deployments.jobs.rows import lock_job
from deployments.jobs.tables import images, jobs


@dataclass(frozen=True)
class Attempts:
    """The ends of attempts, within one transaction.

    Of all methods that take a fence: a stale fence or an unknown job changes nothing. A job whose cancellation was
    requested is cancelled, whatever else would have become of it.
    """

    change: Change

    async def complete(self, job_id: str, fence: int, made: Sequence[NewImage]) -> bool:
        """See :meth:`JobStore.complete`."""
        row = await lock_job(self.change.connection, job_id)
        if row is None or row["attempts"] != fence:
            return False
        if row["state"] != JobState.PROCESSING:
            return bool(row["state"] == JobState.COMPLETED)
        if row["cancel_requested"]:
            await self._cancelled(row)
            return False
        if made:
            in_order = sorted(made, key=lambda image: image.index)
            rows = [{**image.model_dump(), "job_id": job_id, "created_at": self.change.now} for image in in_order]
            await self.change.connection.execute(insert(images), rows)
        seconds = (self.change.now - row["started_at"]).total_seconds()
        await self._end(row, JobState.COMPLETED, "", step=row["total_steps"], processing_seconds=seconds)
        return True

    async def fail(self, job_id: str, fence: int, message: str, max_attempts: int | None) -> bool:
        """See :meth:`JobStore.fail`; ``max_attempts`` is None where another attempt would fail as well."""
        row = await lock_job(self.change.connection, job_id)
        if row is None or not is_current(row, fence):
            return ended_without_completion(row, fence)
        await self._fail_or_put_back(row, message, max_attempts)
        return True

    async def confirm_cancel(self, job_id: str, fence: int) -> bool:
        """See :meth:`JobStore.confirm_cancel`."""
        row = await lock_job(self.change.connection, job_id)
        if row is None or row["attempts"] != fence:
            return False
        if row["state"] == JobState.PROCESSING and row["cancel_requested"]:
            await self._cancelled(row)
            return True
        return bool(row["state"] == JobState.CANCELLED)

    async def reap(self, max_attempts: int) -> list[str]:
        """See :meth:`JobStore.reap`."""
        lapsed = await self.change.connection.execute(
            select(jobs)
            .where(jobs.c.state == JobState.PROCESSING, jobs.c.lease_until <= self.change.now)
            .order_by(jobs.c.number)
            .with_for_update(skip_locked=True)
        )
        reaped = []
        for row in lapsed.mappings().all():
            await self._fail_or_put_back(row, f"its lease lapsed, {row['holder']} no longer reported.", max_attempts)
            reaped.append(row["id"])
        return reaped

    async def _fail_or_put_back(self, row: RowMapping, reason: str, max_attempts: int | None) -> None:
        attempt = row["attempts"]
        if row["cancel_requested"]:
            await self._cancelled(row)
        elif max_attempts is None:
            await self._end(row, JobState.FAILED, reason)
        elif attempt >= max_attempts:
            await self._end(row, JobState.FAILED, f"Gave up after attempt {attempt} of {max_attempts}: {reason}")
        else:
            message = f"Waits again after attempt {attempt} of {max_attempts}: {reason}"
            await self._leave(row, state=JobState.PENDING, message=message, step=0, started_at=None)

    async def _cancelled(self, row: RowMapping) -> None:
        await self._end(row, JobState.CANCELLED, "Cancelled while it ran.")

    async def _end(self, row: RowMapping, state: JobState, message: str, **more: Any) -> None:
        await self._leave(row, state=state, message=message, completed_at=self.change.now, **more)

    async def _leave(self, row: RowMapping, **changes: Any) -> None:
        # Holder and claim id stay: by them a repeated claim call finds that its jobs have moved on.
        changes |= {"phase": None, "lease_until": None}
        self.change.ledger.moved(row, JobState.PROCESSING, changes["state"])
        await self.change.connection.execute(update(jobs).where(jobs.c.id == row["id"]).values(**changes))


def ended_without_completion(row: RowMapping | None, fence: int) -> bool:
    """Whether the attempt with this fence is a job's newest one, and over, and did not complete the job."""
    if row is None or row["attempts"] != fence:
        return False
    return row["state"] not in (JobState.PROCESSING, JobState.COMPLETED)
