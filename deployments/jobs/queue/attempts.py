"""How an attempt at a job ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, select, update

from deployments.jobs.database.rows import lock_job, lock_jobs
from deployments.jobs.database.tables import RUNS, jobs
from deployments.jobs.images.images import add_images
from deployments.jobs.queue.claims import is_current
from deployments.jobs.queue.endings import complete_jobs, end_job
from deployments.jobs.records.jobs import JobState, NewImage
from deployments.jobs.transaction.change import Change


@dataclass(frozen=True)
class Completion:
    """What an attempt has made.

    Attributes:
        job_id: Of the job.
        fence: Of the attempt.
        images: Their records; their bytes are stored already.
    """

    job_id: str
    fence: int
    images: Sequence[NewImage]


@dataclass(frozen=True)
class Attempts:
    """The ends of attempts, within one transaction.

    Of all methods that take a fence: a stale fence or an unknown job changes nothing. A job whose cancellation was
    requested is cancelled, whatever else would have become of it.
    """

    change: Change

    async def complete(self, completions: Sequence[Completion]) -> list[bool]:
        """See :meth:`JobStore.complete_each`: a few statements, however many there are."""
        rows = await lock_jobs(self.change.connection, {each.job_id for each in completions})
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
        await add_images(self.change, [(rows[job_id], images) for job_id, images in made.items()])
        await complete_jobs(self.change, [rows[job_id] for job_id in made])
        for job_id in sorted(cancelled):
            await self._cancelled(rows[job_id])
        return answers

    async def fail(self, job_id: str, fence: int, message: str, max_attempts: int | None) -> bool:
        """See :meth:`JobStore.fail`; ``max_attempts`` is None where another attempt would fail as well."""
        row = await lock_job(self.change.connection, job_id)
        if row is None or not is_current(row, fence):
            return ended_without_completion(row, fence)
        await self._fail_or_put_back(row, message, max_attempts)
        return True

    async def excuse(self, job_id: str, fence: int, reason: str) -> bool:
        """See :meth:`JobStore.excuse`."""
        row = await lock_job(self.change.connection, job_id)
        if row is None or not is_current(row, fence):
            return ended_without_completion(row, fence)
        await self._excuse(row, reason)
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
            .where(RUNS, jobs.c.lease_until <= self.change.now)
            .order_by(jobs.c.number)
            .with_for_update(skip_locked=True)
        )
        reaped = []
        for row in lapsed.mappings().all():
            await self._fail_or_put_back(row, f"its lease lapsed, {row['holder']} no longer reported.", max_attempts)
            reaped.append(row["id"])
        return reaped

    async def release_all(self, reason: str) -> list[str]:
        """See :meth:`JobStore.release_all`."""
        in_order = select(jobs).where(RUNS).order_by(jobs.c.number).with_for_update()
        running = await self.change.connection.execute(in_order)
        released = []
        for row in running.mappings().all():
            await self._excuse(row, reason)
            released.append(row["id"])
        return released

    async def shorten_leases(self, longest: timedelta) -> None:
        """See :meth:`JobStore.shorten_leases`."""
        end = self.change.now + longest
        await self.change.connection.execute(update(jobs).where(RUNS, jobs.c.lease_until > end).values(lease_until=end))

    async def _fail_or_put_back(self, row: RowMapping, reason: str, max_attempts: int | None) -> None:
        attempt = row["attempts"] - row["excused"]
        if row["cancel_requested"]:
            await self._cancelled(row)
        elif max_attempts is None:
            await end_job(self.change, row, JobState.FAILED, reason)
        elif attempt >= max_attempts:
            message = f"Gave up after attempt {attempt} of {max_attempts}: {reason}"
            await end_job(self.change, row, JobState.FAILED, message)
        else:
            not_before = self.change.now + self.change.backoff.pause_after(attempt)
            when = f", from {_told(not_before)} on" if not_before > self.change.now else ""
            message = f"Waits again after attempt {attempt} of {max_attempts}{when}: {reason}"
            await self._put_back(row, not_before, message)

    async def _excuse(self, row: RowMapping, reason: str) -> None:
        if row["cancel_requested"]:
            await self._cancelled(row)
        else:
            await self._put_back(row, self.change.now, f"Waits again: {reason}", excused=row["excused"] + 1)

    async def _put_back(self, row: RowMapping, not_before: datetime, message: str, **more: Any) -> None:
        self.change.ledger.moved(row, JobState.PENDING)
        # Holder and claim id stay: by them a repeated claim call finds that its jobs have moved on.
        changed = await self.change.connection.execute(
            update(jobs)
            .where(jobs.c.id == row["id"])
            .values(
                state=JobState.PENDING,
                phase=None,
                lease_until=None,
                step=0,
                started_at=None,
                not_before=not_before if not_before > self.change.now else None,
                message=message,
                **more,
            )
            .returning(jobs)
        )
        self.change.ledger.waits(changed.mappings().one())

    async def _cancelled(self, row: RowMapping) -> None:
        await end_job(self.change, row, JobState.CANCELLED, "Cancelled while it ran.")


def _told(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def ended_without_completion(row: RowMapping | None, fence: int) -> bool:
    """Whether the attempt with this fence is a job's newest one, and over, and did not complete the job."""
    if row is None or row["attempts"] != fence:
        return False
    return row["state"] not in (JobState.PROCESSING, JobState.COMPLETED)


def _has_completed(row: RowMapping | None, fence: int) -> bool:
    return row is not None and row["attempts"] == fence and row["state"] == JobState.COMPLETED
