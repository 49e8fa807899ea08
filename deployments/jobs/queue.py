"""The queue of pending jobs: in, how far along, out by cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.exceptions import QueueFullError, UnknownJobError
from deployments.jobs.records import Job, JobRequest, JobState
from deployments.jobs.rows import find_job, job_of, lock_job
from deployments.jobs.tables import jobs


def in_turn(model_id: str) -> Select[Any]:
    """Ids of a model's pending jobs in the order in which they are claimed, with their ``position`` from 1.

    Round robin: every client's oldest job before anybody's second one. Within a round the client goes first whose last
    turn at this model was longest ago, then the older job.
    """
    pending = (
        select(
            jobs.c.id,
            jobs.c.client,
            jobs.c.number,
            func.row_number().over(partition_by=jobs.c.client, order_by=jobs.c.number).label("round"),
        )
        .where(jobs.c.state == JobState.PENDING, jobs.c.model_id == model_id)
        .subquery()
    )
    last_turn = (
        select(func.max(jobs.c.turn))
        .where(jobs.c.model_id == model_id, jobs.c.client == pending.c.client)
        .scalar_subquery()
    )
    order = (pending.c.round, last_turn, pending.c.number)
    return select(pending.c.id, func.row_number().over(order_by=order).label("position")).order_by("position")


@dataclass(frozen=True)
class Queue:
    """What clients do with jobs, within one transaction at one time."""

    connection: AsyncConnection
    now: datetime

    async def submit(self, job_id: str, request: JobRequest, queue_limit: int) -> Job:
        """See :meth:`JobStore.submit`."""
        existing = await lock_job(self.connection, job_id)
        if existing is not None:
            return job_of(existing)
        waiting = await self.connection.scalar(
            select(func.count()).select_from(jobs).where(jobs.c.state == JobState.PENDING)
        )
        if (waiting or 0) >= queue_limit:
            raise QueueFullError(f"The queue is full ({queue_limit} jobs wait); try again later.")
        settings = request.settings
        added = await self.connection.execute(
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
                created_at=self.now,
            )
            .returning(jobs)
        )
        return job_of(added.mappings().one())

    async def position(self, job_id: str) -> int | None:
        """See :meth:`JobStore.queue_position`."""
        job = known(await find_job(self.connection, job_id), job_id)
        if job.state is not JobState.PENDING:
            return None
        order = in_turn(job.request.model_id).subquery()
        return await self.connection.scalar(select(order.c.position).where(order.c.id == job_id))

    async def cancel(self, job_id: str) -> Job:
        """See :meth:`JobStore.cancel`."""
        job = known(await lock_job(self.connection, job_id), job_id)
        changes: dict[str, Any]
        if job.state is JobState.PENDING:
            changes = {"state": JobState.CANCELLED, "message": "Cancelled while it waited.", "completed_at": self.now}
        elif job.state is JobState.PROCESSING:
            changes = {"cancel_requested": True}
        else:
            return job
        changed = await self.connection.execute(
            update(jobs).where(jobs.c.id == job_id).values(**changes).returning(jobs)
        )
        return job_of(changed.mappings().one())


def known(row: RowMapping | None, job_id: str) -> Job:
    """Return the record of a row, or raise :class:`UnknownJobError` where there is none."""
    if row is None:
        raise UnknownJobError(f"There is no job {job_id}.")
    return job_of(row)
