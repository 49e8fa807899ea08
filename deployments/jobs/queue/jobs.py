"""Jobs as their clients have them: one by its id, or a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, literal, or_, select, tuple_, update

from deployments.jobs.database.rows import find_job, job_of, known, lock_job
from deployments.jobs.database.tables import UtcDateTime, jobs
from deployments.jobs.queue.endings import end_job
from deployments.jobs.records.cursors import Cursor, next_cursor
from deployments.jobs.records.exceptions import JobStateError
from deployments.jobs.records.jobs import Job, JobState, PriorityClass, Record
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.lanes import Lane, is_in_lane, join_lane, lock_lanes_of, position_of
from deployments.jobs.transaction.operations import Operations, changes, reads

MOST_OF_A_CLIENT = 1000


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


class Jobs(Operations):
    """Single jobs by their ids, and lists of jobs."""

    @reads
    async def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJobError: There is none with this id.
        """
        return job_of(known(await find_job(self.connection, job_id), job_id))

    @reads
    async def position(self, job_id: str) -> int | None:
        """Return how many claims of its model it takes to reach a job (1: it is next); None if it does not wait.

        A job that pauses between attempts has none.

        Raises:
            UnknownJobError: There is none with this id.
        """
        position = await position_of(self.connection, job_id)
        if position is None:
            known(await find_job(self.connection, job_id), job_id)
        return position

    @reads
    async def page(self, wanted: JobFilter, limit: int = 50, cursor: str | None = None) -> JobPage:
        """Return jobs, newest first: up to ``limit`` behind the cursor of an earlier page.

        Raises:
            InvalidCursorError: The cursor is not one of these lists.
        """
        newest = _matching(wanted).order_by(jobs.c.created_at.desc(), jobs.c.number.desc()).limit(limit + 1)
        if cursor is not None:
            behind = Cursor.decode(cursor)
            last_seen = tuple_(literal(behind.at, UtcDateTime()), literal(behind.number))
            newest = newest.where(tuple_(jobs.c.created_at, jobs.c.number) < last_seen)
        rows = (await self.connection.execute(newest)).mappings().all()
        ends = [Cursor(row["created_at"], row["number"]) for row in rows]
        return JobPage(jobs=[job_of(row) for row in rows[:limit]], next_cursor=next_cursor(ends, limit))

    @reads
    async def of_clients(self, ended_since: Mapping[str, datetime]) -> list[str]:
        """Return ids of clients' jobs that are open, or ended at or after a time: of each client the newest 1000.

        Args:
            ended_since: The time for each client.
        """
        found: list[str] = []
        for client, since in ended_since.items():
            newest = (
                select(jobs.c.id)
                .where(jobs.c.client == client, or_(jobs.c.completed_at.is_(None), jobs.c.completed_at >= since))
                .order_by(jobs.c.number.desc())
                .limit(MOST_OF_A_CLIENT)
            )
            found += reversed((await self.connection.scalars(newest)).all())
        return found

    @changes
    async def reprioritize(self, job_id: str, priority: PriorityClass, who: str) -> Job:
        """Give a pending job another class of priority, in which it waits behind its client's other jobs.

        Raises:
            UnknownJobError: There is none with this id.
            JobStateError: It is not pending.
        """
        connection = self.connection
        row = known(await lock_job(connection, job_id), job_id)
        if row["state"] != JobState.PENDING:
            raise JobStateError(f"The job is {row['state']}; only a job that waits can be given another priority.")
        if row["priority"] == priority.rank:
            return job_of(row)
        await lock_lanes_of(connection, row["model_id"], row["client"])
        lane = Lane(row["model_id"], row["client"], priority.rank)
        # Not counted here: the ledger counts it in as it counts it out of the lane that it leaves.
        (place,) = await join_lane(connection, lane, count=1, waiting=0)
        changed = await connection.execute(
            update(jobs).where(jobs.c.id == job_id).values(priority=priority.rank, place=place).returning(jobs)
        )
        moved = changed.mappings().one()
        if is_in_lane(row):
            self.transaction.ledger.left(row)
            self.transaction.ledger.waits(moved)
        self.transaction.ledger.moves.jobs.append(job_id)
        before = PriorityClass.of_rank(row["priority"])
        await Audit(self.transaction).note(who, Action.REPRIORITIZE, row, before=before, after=priority)
        return job_of(moved)

    @changes
    async def cancel(self, job_id: str, who: str = "") -> Job:
        """Cancel a pending job, request the cancellation of a processing one, leave one that has ended.

        Raises:
            UnknownJobError: There is none with this id.
        """
        row = known(await lock_job(self.connection, job_id), job_id)
        if row["state"] == JobState.PENDING:
            changed = await end_job(self.transaction, row, JobState.CANCELLED, "Cancelled while it waited.")
        elif row["state"] == JobState.PROCESSING and not row["cancel_requested"]:
            asked = update(jobs).where(jobs.c.id == job_id).values(cancel_requested=True).returning(jobs)
            changed = (await self.connection.execute(asked)).mappings().one()
            self.transaction.ledger.moves.jobs.append(job_id)
        else:
            return job_of(row)
        await Audit(self.transaction).note(who, Action.CANCEL, row)
        return job_of(changed)


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
