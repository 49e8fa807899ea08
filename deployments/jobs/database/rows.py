"""Rows of the tables as records, and how one of them is found."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.tables import jobs
from deployments.jobs.records.exceptions import UnknownJobError
from deployments.jobs.records.jobs import Image, Job, JobPhase, JobRequest, JobState, PriorityClass
from deployments.parameters import GenerationSettings


def request_of(row: RowMapping) -> JobRequest:
    """Return what the client of a job asked for."""
    return JobRequest(
        model_id=row["model_id"],
        prompt=row["prompt"],
        negative_prompt=row["negative_prompt"],
        settings=GenerationSettings(**row["settings"]),
        client=row["client"],
        priority=PriorityClass.of_rank(row["asked_priority"]),
        expires_in=row["expires_in"],
        batch_size=row["batch_size"],
        webhook_url=row["webhook_url"],
    )


def job_of(row: RowMapping) -> Job:
    """Return the record of a row of ``jobs``."""
    return Job(
        id=row["id"],
        request=request_of(row),
        state=JobState(row["state"]),
        phase=None if row["phase"] is None else JobPhase(row["phase"]),
        step=row["step"],
        total_steps=row["total_steps"],
        attempts=row["attempts"],
        message=row["message"],
        cancel_requested=row["cancel_requested"],
        priority=PriorityClass.of_rank(row["priority"]),
        not_before=row["not_before"],
        expires_at=row["expires_at"],
        retry_of=row["retry_of"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
    )


def image_of(row: RowMapping) -> Image:
    """Return the record of a row of ``images`` that was joined with its job's ``model_id``."""
    return Image(**{name: row[name] for name in Image.model_fields})


async def find_job(connection: AsyncConnection, job_id: str) -> RowMapping | None:
    """Return a job's row, or None for an unknown id."""
    found = await connection.execute(select(jobs).where(jobs.c.id == job_id))
    return found.mappings().one_or_none()


async def lock_job(connection: AsyncConnection, job_id: str) -> RowMapping | None:
    """As :func:`find_job`; the row stays locked until the transaction ends, where the database locks rows."""
    found = await connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update())
    return found.mappings().one_or_none()


async def lock_jobs(connection: AsyncConnection, job_ids: Collection[str]) -> dict[str, RowMapping]:
    """As :func:`lock_job` of many, by their ids; locked in one order by all who call it."""
    chosen = select(jobs).where(jobs.c.id.in_(job_ids)).order_by(jobs.c.id).with_for_update()
    found = await connection.execute(chosen)
    return {row["id"]: row for row in found.mappings()}


def known(row: RowMapping | None, job_id: str) -> RowMapping:
    """Return a job's row, or raise :class:`UnknownJobError` where there is none."""
    if row is None:
        raise UnknownJobError(f"There is no job {job_id}.")
    return row
