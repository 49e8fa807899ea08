"""The queue of pending jobs: in, how far along, out by cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.change import Change
from deployments.jobs.counts import pending_jobs
from deployments.jobs.exceptions import QueueFullError, UnknownJobError
from deployments.jobs.lanes import join_lane, position_of
from deployments.jobs.records import Job, JobRequest, JobState
from deployments.jobs.rows import find_job, job_of, lock_job
from deployments.jobs.tables import jobs


@dataclass(frozen=True)
class Queue:
    """What clients do with jobs, within one transaction."""

    change: Change

    async def submit(self, job_id: str, request: JobRequest, queue_limit: int) -> Job:
        """See :meth:`JobStore.submit`."""
        connection = self.change.connection
        existing = await lock_job(connection, job_id)
        if existing is not None:
            return job_of(existing)
        if await pending_jobs(connection) >= queue_limit:
            raise QueueFullError(f"The queue is full ({queue_limit} jobs wait); try again later.")
        settings = request.settings
        place = await join_lane(connection, request.model_id, request.client)
        self.change.ledger.added(request.model_id)
        added = await connection.execute(
            insert(jobs)
            .values(
                id=job_id,
                model_id=request.model_id,
                client=request.client,
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                settings=settings.model_dump(mode="json"),
                search_text=f"{request.prompt}\n{request.model_id}".casefold(),
                state=JobState.PENDING,
                total_steps=settings.num_images * settings.num_inference_steps,
                created_at=self.change.now,
                place=place,
            )
            .returning(jobs)
        )
        return job_of(added.mappings().one())

    async def cancel(self, job_id: str) -> Job:
        """See :meth:`JobStore.cancel`."""
        row = known(await lock_job(self.change.connection, job_id), job_id)
        changes: dict[str, Any]
        if row["state"] == JobState.PENDING:
            message, now = "Cancelled while it waited.", self.change.now
            changes = {"state": JobState.CANCELLED, "message": message, "completed_at": now}
            self.change.ledger.moved(row, JobState.PENDING, JobState.CANCELLED)
        elif row["state"] == JobState.PROCESSING:
            changes = {"cancel_requested": True}
        else:
            return job_of(row)
        changed = await self.change.connection.execute(
            update(jobs).where(jobs.c.id == job_id).values(**changes).returning(jobs)
        )
        return job_of(changed.mappings().one())


async def queue_position(connection: AsyncConnection, job_id: str) -> int | None:
    """See :meth:`JobStore.queue_position`."""
    position = await position_of(connection, job_id)
    if position is None:
        known(await find_job(connection, job_id), job_id)
    return position


def known(row: RowMapping | None, job_id: str) -> RowMapping:
    """Return a job's row, or raise :class:`UnknownJobError` where there is none."""
    if row is None:
        raise UnknownJobError(f"There is no job {job_id}.")
    return row
