"""The queue of pending jobs: in, how far along, up or down, out by cancellation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.rows import find_job, job_of, lock_job, request_of
from deployments.jobs.database.tables import jobs, sources
from deployments.jobs.queue.endings import end_job
from deployments.jobs.queue.limits import Admission, QueueLimits
from deployments.jobs.records.exceptions import JobError, JobStateError, UnknownJobError
from deployments.jobs.records.jobs import Job, JobRequest, JobState, PriorityClass
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.change import Change
from deployments.jobs.transaction.lanes import Lane, is_in_lane, join_lane, lock_lanes_of, position_of


@dataclass(frozen=True)
class Queue:
    """What clients do with jobs, within one transaction."""

    change: Change

    async def submit(
        self, wanted: Mapping[str, JobRequest], limits: QueueLimits, retry_of: str | None = None
    ) -> list[Job]:
        """See :meth:`JobStore.submit_all`."""
        existing = await self._existing(list(wanted))
        if existing:
            return existing
        await Admission(self.change, limits).check(list(wanted.values()))
        places = await self._give_places(wanted)
        rows = [
            self._row(job_id, request, place=places[job_id], retry_of=retry_of) for job_id, request in wanted.items()
        ]
        await self.change.connection.execute(insert(jobs), rows)
        for row in rows:
            self.change.ledger.added(row)
        await self._note_sources(wanted)
        # Made from what was written: to read the rows back would cost as much as to write them.
        return [_new_job(row, wanted[row["id"]]) for row in rows]

    async def submit_each(self, submits: Sequence[tuple[str, JobRequest]], limits: QueueLimits) -> list[Job | JobError]:
        """See :meth:`JobStore.submit_each`."""
        wanted = dict(submits)
        if len(wanted) == len(submits):
            # The rule: all are new, and there is room for all of them. It takes a handful of statements.
            together = await self._submit_or_refuse(wanted, limits)
            if not isinstance(together, JobError) and {job.id for job in together} == wanted.keys():
                by_id = {job.id: job for job in together}
                return [by_id[job_id] for job_id, _ in submits]
        ends: list[Job | JobError] = []
        for job_id, request in submits:
            alone = await self._submit_or_refuse({job_id: request}, limits)
            ends.append(alone if isinstance(alone, JobError) else alone[0])
        return ends

    async def retry(self, job_id: str, new_id: str, limits: QueueLimits, who: str) -> Job:
        """See :meth:`JobStore.retry`."""
        existing = await self._existing([new_id])
        if existing:
            return existing[0]
        row = known(await lock_job(self.change.connection, job_id), job_id)
        if row["state"] not in (JobState.FAILED, JobState.CANCELLED):
            raise JobStateError(f"The job is {row['state']}; only a failed or cancelled job can be tried again.")
        request = request_of(row).model_copy(update={"batch_size": None})
        (job,) = await self.submit({new_id: request}, limits, retry_of=job_id)
        await Audit(self.change, who).note(Action.RETRY, row, new_job_id=new_id)
        return job

    async def reprioritize(self, job_id: str, priority: PriorityClass, who: str) -> Job:
        """See :meth:`JobStore.reprioritize`."""
        connection = self.change.connection
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
            self.change.ledger.left(row)
            self.change.ledger.waits(moved)
        self.change.ledger.moves.jobs.append(job_id)
        before = PriorityClass.of_rank(row["priority"])
        await Audit(self.change, who).note(Action.REPRIORITIZE, row, before=before, after=priority)
        return job_of(moved)

    async def cancel(self, job_id: str, who: str) -> Job:
        """See :meth:`JobStore.cancel`."""
        row = known(await lock_job(self.change.connection, job_id), job_id)
        if row["state"] == JobState.PENDING:
            changed = await end_job(self.change, row, JobState.CANCELLED, "Cancelled while it waited.")
        elif row["state"] == JobState.PROCESSING and not row["cancel_requested"]:
            asked = update(jobs).where(jobs.c.id == job_id).values(cancel_requested=True).returning(jobs)
            changed = (await self.change.connection.execute(asked)).mappings().one()
        else:
            return job_of(row)
        await Audit(self.change, who).note(Action.CANCEL, row)
        return job_of(changed)

    async def _submit_or_refuse(self, wanted: Mapping[str, JobRequest], limits: QueueLimits) -> list[Job] | JobError:
        """The jobs; or why they are refused, and then nothing is left of the attempt."""
        try:
            async with self.change.connection.begin_nested():
                return await self.submit(wanted, limits)
        except JobError as error:
            return error

    async def _existing(self, job_ids: list[str]) -> list[Job]:
        found = await self.change.connection.execute(
            select(jobs).where(jobs.c.id.in_(job_ids)).order_by(jobs.c.number).with_for_update()
        )
        return [job_of(row) for row in found.mappings()]

    async def _give_places(self, wanted: Mapping[str, JobRequest]) -> dict[str, int]:
        """A place in its lane for each new job, which the lanes count as pending."""
        by_lane: defaultdict[Lane, list[str]] = defaultdict(list)
        for job_id, request in wanted.items():
            by_lane[Lane(request.model_id, request.client, request.priority.rank)].append(job_id)
        places: dict[str, int] = {}
        for lane, job_ids in sorted(by_lane.items()):
            given = await join_lane(self.change.connection, lane, count=len(job_ids), waiting=len(job_ids))
            places |= zip(job_ids, given, strict=True)
        return places

    async def _note_sources(self, wanted: Mapping[str, JobRequest]) -> None:
        """For the lineage of their images, and so that the pictures are kept."""
        named = [
            {"job_id": job_id, "role": role, "picture_id": picture_id}
            for job_id, request in wanted.items()
            for role, picture_id in request.settings.pictures.items()
        ]
        if named:
            await self.change.connection.execute(insert(sources), named)

    def _row(self, job_id: str, request: JobRequest, **more: Any) -> dict[str, Any]:
        settings, now = request.settings, self.change.now
        return {
            "id": job_id,
            "model_id": request.model_id,
            "client": request.client,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            # Without defaults, so that an earlier version at the same database reads what it would have written.
            "settings": settings.model_dump(mode="json", exclude_defaults=True),
            "search_text": f"{request.prompt}\n{request.model_id}".casefold(),
            "state": JobState.PENDING,
            "total_steps": settings.total_steps,
            "created_at": now,
            "priority": request.priority.rank,
            "asked_priority": request.priority.rank,
            "expires_in": request.expires_in,
            "expires_at": None if request.expires_in is None else now + timedelta(seconds=request.expires_in),
            "batch_size": request.batch_size,
            "webhook_url": request.webhook_url,
            **more,
        }


def _new_job(row: Mapping[str, Any], request: JobRequest) -> Job:
    told = {name: row[name] for name in ("id", "state", "total_steps", "expires_at", "retry_of", "created_at")}
    return Job(request=request, priority=request.priority, **told)


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
