"""What operators do with many jobs at once: pause a model, reset, clear, remove what is kept no longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select

from deployments.jobs.database.tables import HAS_ENDED, images, jobs, pauses
from deployments.jobs.database.upserts import upsert
from deployments.jobs.images.holdings import Holdings
from deployments.jobs.images.images import Images
from deployments.jobs.queue.attempts import Attempts
from deployments.jobs.queue.counts import Counts
from deployments.jobs.queue.endings import end_job
from deployments.jobs.records.jobs import JobState
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.backoff import NO_PAUSES
from deployments.jobs.transaction.operations import Operations, changes, reads, reads_clock

CLEARED = "Cancelled while it waited: the queue was cleared."


@dataclass(frozen=True)
class RetentionLimits:
    """What is kept; None for no limit. Above a limit the jobs that ended first go first.

    Attributes:
        age: Since a job's end.
        jobs: Jobs that have ended.
        image_bytes: Of all images.
    """

    age: timedelta | None = None
    jobs: int | None = None
    image_bytes: int | None = None


@dataclass(frozen=True)
class Removable:
    """A job that may be forgotten once the bytes of its images are gone.

    Attributes:
        job_id: Its id.
        keys: Where storage has its images.
    """

    job_id: str
    keys: list[str] = field(default_factory=list)


class Administration(Operations):
    """For those who look after many jobs; every change names in the audit record who made it."""

    @changes
    async def pause(self, model_id: str, who: str) -> None:
        """Let nobody claim jobs of a model; those that run go on, those that wait keep waiting."""
        row = {"model_id": model_id, "paused_at": self.transaction.now, "who": who}
        paused = upsert(self.connection, pauses).values(**row).on_conflict_do_nothing()
        if (await self.connection.execute(paused)).rowcount:
            await Audit(self.transaction).note_model(who, Action.PAUSE, model_id)

    @changes
    async def resume(self, model_id: str, who: str) -> None:
        """Take back :meth:`pause`."""
        resumed = delete(pauses).where(pauses.c.model_id == model_id)
        if (await self.connection.execute(resumed)).rowcount:
            self.transaction.ledger.moves.has_claimable = True
            await Audit(self.transaction).note_model(who, Action.RESUME, model_id)

    @reads
    async def paused_models(self) -> list[str]:
        """Return the ids of the models that are paused."""
        return list((await self.connection.scalars(select(pauses.c.model_id).order_by(pauses.c.model_id))).all())

    @changes
    async def reset(self, max_attempts: int, who: str) -> list[str]:
        """As :meth:`Attempts.reap`, on somebody's request: jobs that go back into the queue do not pause."""
        reaped = await Attempts(replace(self.transaction, backoff=NO_PAUSES)).reap(max_attempts)
        await Audit(self.transaction).note(who, Action.RESET, jobs=len(reaped))
        return reaped

    @changes
    async def cancel_pending(self, limit: int, who: str) -> int:
        """Cancel up to ``limit`` pending jobs, the oldest first, and return how many were cancelled."""
        found = await self.connection.execute(
            select(jobs)
            .where(jobs.c.state == JobState.PENDING)
            .order_by(jobs.c.created_at, jobs.c.number)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        rows = found.mappings().all()
        for row in rows:
            await end_job(self.transaction, row, JobState.CANCELLED, CLEARED)
        if rows:
            await Audit(self.transaction).note(who, Action.CLEAR, state=JobState.PENDING, jobs=len(rows))
        return len(rows)

    @reads
    async def removable(self, state: JobState, limit: int) -> list[Removable]:
        """Return up to ``limit`` jobs in a state, the oldest first, with the images to delete before :meth:`remove`."""
        oldest = select(jobs.c.id).where(jobs.c.state == state).order_by(jobs.c.created_at, jobs.c.number).limit(limit)
        return await self._with_keys(oldest)

    @reads_clock
    async def removable_by(self, limits: RetentionLimits, limit: int) -> list[Removable]:
        """As :meth:`removable`, of the jobs above the limits of what is kept."""
        oldest = select(jobs.c.id).where(HAS_ENDED).order_by(jobs.c.completed_at)
        if limits.age is not None:
            before = self.transaction.now - limits.age
            found = await self._with_keys(oldest.where(jobs.c.completed_at < before).limit(limit))
            if found:
                return found
        if limits.jobs is not None:
            counts = await Counts(self.transaction).by_state()
            excess = counts.completed + counts.failed + counts.cancelled - limits.jobs
            if excess > 0:
                return await self._with_keys(oldest.limit(min(excess, limit)))
        if limits.image_bytes is not None:
            return await self._with_most_bytes(limits.image_bytes, limit)
        return []

    @changes
    async def remove(self, job_ids: Sequence[str], who: str) -> int:
        """Delete the records of those of some jobs that have ended, and of their images; return how many jobs."""
        found = await self.connection.execute(
            select(jobs).where(HAS_ENDED, jobs.c.id.in_(job_ids)).order_by(jobs.c.number).with_for_update()
        )
        rows = found.mappings().all()
        if not rows:
            return 0
        gone = [row["id"] for row in rows]
        await Images(self.transaction).delete_of_jobs(gone)
        await self.connection.execute(delete(jobs).where(jobs.c.id.in_(gone)))
        for row in rows:
            self.transaction.ledger.removed(row)
        states = sorted({row["state"] for row in rows})
        await Audit(self.transaction).note(who, Action.CLEAR, state=", ".join(states), jobs=len(rows))
        return len(rows)

    async def _with_most_bytes(self, most: int, limit: int) -> list[Removable]:
        """The jobs of the oldest images, until those that are left have at most so many bytes."""
        excess = await Holdings(self.transaction).byte_count() - most
        if excess <= 0:
            return []
        oldest = await self.connection.execute(
            select(images.c.job_id, func.sum(images.c.byte_count).label("bytes"))
            .group_by(images.c.job_id)
            .order_by(func.min(images.c.number))
            .limit(limit)
        )
        found = []
        for job_id, byte_count in oldest:
            if excess <= 0:
                break
            found.append(job_id)
            excess -= byte_count
        return await self._with_keys(select(jobs.c.id).where(jobs.c.id.in_(found)))

    async def _with_keys(self, wanted: Select[Any]) -> list[Removable]:
        found: dict[str, Removable] = {job_id: Removable(job_id) for job_id in await self.connection.scalars(wanted)}
        made = await self.connection.execute(
            select(images.c.job_id, images.c.key).where(images.c.job_id.in_(list(found)))
        )
        for job_id, key in made:
            found[job_id].keys.append(key)
        return list(found.values())
