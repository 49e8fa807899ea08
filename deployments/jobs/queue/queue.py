"""The queue of pending jobs, and how jobs come into it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, select

from deployments.jobs.database.rows import job_of, known, lock_job, request_of
from deployments.jobs.database.tables import jobs, sources
from deployments.jobs.queue.limits import Admission, QueueLimits
from deployments.jobs.records.exceptions import JobError, JobStateError
from deployments.jobs.records.jobs import Job, JobRequest, JobState
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.lanes import Lane, join_lane
from deployments.jobs.transaction.operations import Operations, changes


class Queue(Operations):
    """Jobs on their way into the queue."""

    @changes
    async def submit(
        self, wanted: Mapping[str, JobRequest], limits: QueueLimits, retry_of: str | None = None
    ) -> list[Job]:
        """Put jobs into the queue, by their ids: all or none; where some of the ids are taken, return their jobs.

        Submits at once on a server do not see each other's jobs, and may go over a limit by as many.

        Args:
            wanted: The requests by the ids of their jobs.
            limits: Of the queue.
            retry_of: Id of the job that these try again; None for none.

        Raises:
            QueueFullError: There is no room for all of them in the queue, or in that of a model.
            ClientQueueFullError: Too many jobs of the client wait.
        """
        existing = await self._existing(list(wanted))
        if existing:
            return existing
        await Admission(self.transaction, limits).check(list(wanted.values()))
        places = await self._give_places(wanted)
        rows = [
            self._row(job_id, request, place=places[job_id], retry_of=retry_of) for job_id, request in wanted.items()
        ]
        await self.connection.execute(insert(jobs), rows)
        for row in rows:
            self.transaction.ledger.added(row)
        await self._note_sources(wanted)
        # Made from what was written: to read the rows back would cost as much as to write them.
        return [_new_job(row, wanted[row["id"]]) for row in rows]

    @changes
    async def submit_each(self, submits: Sequence[tuple[str, JobRequest]], limits: QueueLimits) -> list[Job | JobError]:
        """As :meth:`submit` of each alone; in place of a job that is refused, the error says why."""
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

    @changes
    async def retry(self, job_id: str, new_id: str, limits: QueueLimits, who: str) -> Job:
        """Submit what a failed or cancelled job asked for once more, as a new job with this id that names the old one.

        Raises:
            UnknownJobError: There is none with this id.
            JobStateError: It has not failed and was not cancelled.
            QueueFullError: As :meth:`submit`.
        """
        existing = await self._existing([new_id])
        if existing:
            return existing[0]
        row = known(await lock_job(self.connection, job_id), job_id)
        if row["state"] not in (JobState.FAILED, JobState.CANCELLED):
            raise JobStateError(f"The job is {row['state']}; only a failed or cancelled job can be tried again.")
        request = request_of(row).model_copy(update={"batch_size": None})
        (job,) = await self.submit({new_id: request}, limits, retry_of=job_id)
        await Audit(self.transaction).note(who, Action.RETRY, row, new_job_id=new_id)
        return job

    async def _submit_or_refuse(self, wanted: Mapping[str, JobRequest], limits: QueueLimits) -> list[Job] | JobError:
        """The jobs; or why they are refused, and then nothing is left of the attempt."""
        try:
            async with self.connection.begin_nested():
                return await self.submit(wanted, limits)
        except JobError as error:
            return error

    async def _existing(self, job_ids: list[str]) -> list[Job]:
        found = await self.connection.execute(
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
            given = await join_lane(self.connection, lane, count=len(job_ids), waiting=len(job_ids))
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
            await self.connection.execute(insert(sources), named)

    def _row(self, job_id: str, request: JobRequest, **more: Any) -> dict[str, Any]:
        settings, now = request.settings, self.transaction.now
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
    written = {name: row[name] for name in ("id", "state", "total_steps", "expires_at", "retry_of", "created_at")}
    return Job(request=request, priority=request.priority, **written)
