"""How an attempt at a job ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, select, update

from deployments.clock import iso_utc
from deployments.jobs.database.rows import lock_job, lock_jobs
from deployments.jobs.database.tables import RUNS, jobs
from deployments.jobs.images.images import Images
from deployments.jobs.queue.claims import is_current
from deployments.jobs.queue.endings import complete_jobs, end_job
from deployments.jobs.records.jobs import JobState, NewImage
from deployments.jobs.transaction.operations import Operations, changes


@dataclass(frozen=True)
class Completion:
    """The end of an attempt that has made its images.

    Attributes:
        job_id: Of the job.
        fence: Of the attempt.
        images: Their records; their bytes are stored already.
    """

    job_id: str
    fence: int
    images: Sequence[NewImage]


class Attempts(Operations):
    """The ends of attempts.

    Of all methods that take a fence: a stale fence or an unknown job changes nothing. A job whose cancellation was
    requested is cancelled, whatever else would have become of it.
    """

    @changes
    async def complete(self, completions: Sequence[Completion]) -> list[bool]:
        """End jobs with their images, in a few statements, however many there are.

        Returns:
            For each, True if the attempt with this fence completed the job, now or before. False if it is stale, or if
            the job's cancellation was requested, which makes it cancelled. Then the bytes are of no use, but look at
            the job before removing them: another attempt writes its images under the same keys.
        """
        rows = await lock_jobs(self.connection, {each.job_id for each in completions})
        made: dict[str, Sequence[NewImage]] = {}
        cancelled: set[str] = set()
        answers = []
        for each in completions:
            row = rows.get(each.job_id)
            if row is None or not is_current(row, each.fence):
                answers.append(_has_completed(row, each.fence))
            elif row["cancel_requested"]:
                cancelled.add(each.job_id)
                answers.append(False)
            else:
                # A call that is repeated may stand here beside the first one.
                made.setdefault(each.job_id, each.images)
                answers.append(True)
        await Images(self.transaction).add([(rows[job_id], images) for job_id, images in made.items()])
        await complete_jobs(self.transaction, [rows[job_id] for job_id in made])
        for job_id in sorted(cancelled):
            await self._cancelled(rows[job_id])
        return answers

    @changes
    async def fail(self, job_id: str, fence: int, message: str, max_attempts: int | None) -> bool:
        """End an attempt that failed: back into the queue while attempts are left, or for good.

        Args:
            job_id: Of the job.
            fence: Of the attempt.
            message: Why it failed, as a sentence for the client.
            max_attempts: Attempts that the job has; None where another attempt would fail as well.

        Returns:
            True if the attempt with this fence is over; False if it is stale or had completed the job.
        """
        row = await lock_job(self.connection, job_id)
        if row is None or not is_current(row, fence):
            return ended_without_completion(row, fence)
        await self._fail_or_put_back(row, message, max_attempts)
        return True

    @changes
    async def excuse(self, job_id: str, fence: int, reason: str) -> bool:
        """As :meth:`fail`, where somebody ended the attempt on purpose: it does not count, and no pause follows."""
        row = await lock_job(self.connection, job_id)
        if row is None or not is_current(row, fence):
            return ended_without_completion(row, fence)
        await self._excuse(row, reason)
        return True

    @changes
    async def confirm_cancel(self, job_id: str, fence: int) -> bool:
        """Cancel a processing job whose cancellation was requested, now that its attempt has stopped.

        Returns:
            True if the job is cancelled; False if this attempt is stale or nobody asked for it.
        """
        row = await lock_job(self.connection, job_id)
        if row is None or row["attempts"] != fence:
            return False
        if row["state"] == JobState.PROCESSING and row["cancel_requested"]:
            await self._cancelled(row)
            return True
        return bool(row["state"] == JobState.CANCELLED)

    @changes
    async def reap(self, max_attempts: int) -> list[str]:
        """Release every job whose lease has lapsed, as :meth:`fail` does, and return their ids."""
        lapsed = await self.connection.execute(
            select(jobs)
            .where(RUNS, jobs.c.lease_until <= self.transaction.now)
            .order_by(jobs.c.number)
            .with_for_update(skip_locked=True)
        )
        reaped = []
        for row in lapsed.mappings().all():
            await self._fail_or_put_back(row, f"its lease lapsed, {row['holder']} no longer reported.", max_attempts)
            reaped.append(row["id"])
        return reaped

    @changes
    async def release_all(self, reason: str) -> list[str]:
        """Put every running job back into the queue, as :meth:`excuse` does, and return their ids.

        For a caller who knows that nobody runs jobs any more.
        """
        in_order = select(jobs).where(RUNS).order_by(jobs.c.number).with_for_update()
        running = await self.connection.execute(in_order)
        released = []
        for row in running.mappings().all():
            await self._excuse(row, reason)
            released.append(row["id"])
        return released

    @changes
    async def shorten_leases(self, longest: timedelta) -> None:
        """Let no lease last longer than ``longest`` from now: after a clock was set back, some would."""
        end = self.transaction.now + longest
        await self.connection.execute(update(jobs).where(RUNS, jobs.c.lease_until > end).values(lease_until=end))

    async def _fail_or_put_back(self, row: RowMapping, reason: str, max_attempts: int | None) -> None:
        attempt = row["attempts"] - row["excused"]
        if row["cancel_requested"]:
            await self._cancelled(row)
        elif max_attempts is None:
            await end_job(self.transaction, row, JobState.FAILED, reason)
        elif attempt >= max_attempts:
            message = f"Gave up after attempt {attempt} of {max_attempts}: {reason}"
            await end_job(self.transaction, row, JobState.FAILED, message)
        else:
            not_before = self.transaction.now + self.transaction.backoff.pause_after(attempt)
            when = f", from {iso_utc(not_before, 'seconds')} on" if not_before > self.transaction.now else ""
            message = f"Waits again after attempt {attempt} of {max_attempts}{when}: {reason}"
            await self._put_back(row, not_before, message)

    async def _excuse(self, row: RowMapping, reason: str) -> None:
        if row["cancel_requested"]:
            await self._cancelled(row)
        else:
            await self._put_back(row, self.transaction.now, f"Waits again: {reason}", excused=row["excused"] + 1)

    async def _put_back(self, row: RowMapping, not_before: datetime, message: str, **more: Any) -> None:
        self.transaction.ledger.moved(row, JobState.PENDING)
        # Holder and claim id stay: by them a repeated claim call finds that its jobs have moved on.
        changed = await self.connection.execute(
            update(jobs)
            .where(jobs.c.id == row["id"])
            .values(
                state=JobState.PENDING,
                phase=None,
                lease_until=None,
                step=0,
                started_at=None,
                not_before=not_before if not_before > self.transaction.now else None,
                message=message,
                **more,
            )
            .returning(jobs)
        )
        self.transaction.ledger.waits(changed.mappings().one())

    async def _cancelled(self, row: RowMapping) -> None:
        await end_job(self.transaction, row, JobState.CANCELLED, "Cancelled while it ran.")


def ended_without_completion(row: RowMapping | None, fence: int) -> bool:
    """Whether the attempt with this fence is a job's newest one, and over, and did not complete the job."""
    if row is None or row["attempts"] != fence:
        return False
    return row["state"] not in (JobState.PROCESSING, JobState.COMPLETED)


def _has_completed(row: RowMapping | None, fence: int) -> bool:
    return row is not None and row["attempts"] == fence and row["state"] == JobState.COMPLETED
