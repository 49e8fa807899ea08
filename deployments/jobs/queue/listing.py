"""Lists of jobs, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.rows import job_of
from deployments.jobs.database.tables import UtcDateTime, jobs
from deployments.jobs.records.cursors import Cursor, next_cursor
from deployments.jobs.records.jobs import Job, JobState, Record


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are listed; what is None does not matter.

    Attributes:
        state: Their state.
        model_id: Their model.
        client: Who submitted them.
        created_after: They were submitted later.
        created_before: They were submitted earlier.
    """

    state: JobState | None = None
    model_id: str | None = None
    client: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


class JobPage(Record):
    """Some jobs, newest first."""

    jobs: list[Job]
    next_cursor: str | None
    """Where the next page begins; None on the last one."""


async def job_page(connection: AsyncConnection, wanted: JobFilter, limit: int, cursor: str | None) -> JobPage:
    """See :meth:`JobStore.list_jobs`."""
    newest = _matching(wanted).order_by(jobs.c.created_at.desc(), jobs.c.number.desc()).limit(limit + 1)
    if cursor is not None:
        behind = Cursor.decode(cursor)
        last_seen = tuple_(literal(behind.at, UtcDateTime()), literal(behind.number))
        newest = newest.where(tuple_(jobs.c.created_at, jobs.c.number) < last_seen)
    rows = (await connection.execute(newest)).mappings().all()
    ends = [Cursor(row["created_at"], row["number"]) for row in rows]
    return JobPage(jobs=[job_of(row) for row in rows[:limit]], next_cursor=next_cursor(ends, limit))


def _matching(wanted: JobFilter) -> Select[Any]:
    matching = select(jobs)
    equal = {jobs.c.state: wanted.state, jobs.c.model_id: wanted.model_id, jobs.c.client: wanted.client}
    for column, value in equal.items():
        if value is not None:
            matching = matching.where(column == value)
    if wanted.created_after is not None:
        matching = matching.where(jobs.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        matching = matching.where(jobs.c.created_at < wanted.created_before)
    return matching
