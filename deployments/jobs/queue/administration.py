"""What operators do with many jobs at once: pause a model, clear, keep no longer than need be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.tables import HAS_ENDED, images, jobs, pauses
from deployments.jobs.database.upserts import upsert
from deployments.jobs.images.holdings import held_bytes
from deployments.jobs.images.images import Images
from deployments.jobs.queue.counts import count_by_state
from deployments.jobs.queue.endings import end_job
from deployments.jobs.records.jobs import JobState
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.change import Change

CLEARED = "Cancelled while it waited: the queue was cleared."


@dataclass(frozen=True)
class RetentionLimits:
    """What is kept; None for no limit. What is above goes, the jobs that ended first before the others.

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


@dataclass(frozen=True)
class Administration:
    """What operators change, within one transaction."""

    change: Change
    who: str

    async def pause(self, model_id: str) -> None:
        """See :meth:`StoreAdministration.pause`."""
        row = {"model_id": model_id, "paused_at": self.change.now, "who": self.who}
        paused = upsert(self.change.connection, pauses).values(**row).on_conflict_do_nothing()
        if (await self.change.connection.execute(paused)).rowcount:
            await Audit(self.change, self.who).note_model(Action.PAUSE, model_id)

    async def resume(self, model_id: str) -> None:
        """See :meth:`StoreAdministration.resume`."""
        resumed = delete(pauses).where(pauses.c.model_id == model_id)
        if (await self.change.connection.execute(resumed)).rowcount:
            self.change.ledger.moves.has_claimable = True
            await Audit(self.change, self.who).note_model(Action.RESUME, model_id)

    async def cancel_pending(self, limit: int) -> int:
        """See :meth:`StoreAdministration.cancel_pending`."""
        found = await self.change.connection.execute(
            select(jobs)
            .where(jobs.c.state == JobState.PENDING)
            .order_by(jobs.c.created_at, jobs.c.number)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        rows = found.mappings().all()
        for row in rows:
            await end_job(self.change, row, JobState.CANCELLED, CLEARED)
        if rows:
            await Audit(self.change, self.who).note(Action.CLEAR, state=JobState.PENDING, jobs=len(rows))
        return len(rows)

    async def remove(self, job_ids: Sequence[str]) -> int:
        """See :meth:`StoreAdministration.remove`."""
        found = await self.change.connection.execute(
            select(jobs).where(HAS_ENDED, jobs.c.id.in_(job_ids)).order_by(jobs.c.number).with_for_update()
        )
        rows = found.mappings().all()
        if not rows:
            return 0
        gone = [row["id"] for row in rows]
        await Images(self.change.connection).delete_of_jobs(gone)
        await self.change.connection.execute(delete(jobs).where(jobs.c.id.in_(gone)))
        for row in rows:
            self.change.ledger.removed(row)
        states = sorted({row["state"] for row in rows})
        await Audit(self.change, self.who).note(Action.CLEAR, state=", ".join(states), jobs=len(rows))
        return len(rows)


async def paused_models(connection: AsyncConnection) -> list[str]:
    """See :meth:`StoreAdministration.paused_models`."""
    return list((await connection.scalars(select(pauses.c.model_id).order_by(pauses.c.model_id))).all())


async def removable_in(connection: AsyncConnection, state: JobState, limit: int) -> list[Removable]:
    """See :meth:`StoreAdministration.removable`."""
    oldest = select(jobs.c.id).where(jobs.c.state == state).order_by(jobs.c.created_at, jobs.c.number).limit(limit)
    return await _with_keys(connection, oldest)


async def removable_by(
    connection: AsyncConnection, now: datetime, limits: RetentionLimits, limit: int
) -> list[Removable]:
    """See :meth:`StoreAdministration.removable_by`."""
    oldest = select(jobs.c.id).where(HAS_ENDED).order_by(jobs.c.completed_at)
    if limits.age is not None:
        found = await _with_keys(connection, oldest.where(jobs.c.completed_at < now - limits.age).limit(limit))
        if found:
            return found
    if limits.jobs is not None:
        counts = await count_by_state(connection)
        excess = counts.completed + counts.failed + counts.cancelled - limits.jobs
        if excess > 0:
            return await _with_keys(connection, oldest.limit(min(excess, limit)))
    if limits.image_bytes is not None:
        return await _with_most_bytes(connection, limits.image_bytes, limit)
    return []


async def _with_most_bytes(connection: AsyncConnection, most: int, limit: int) -> list[Removable]:
    """The jobs of the oldest images, until those that are left have at most so many bytes."""
    excess = await held_bytes(connection) - most
    if excess <= 0:
        return []
    oldest = await connection.execute(
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
    return await _with_keys(connection, select(jobs.c.id).where(jobs.c.id.in_(found)))


async def _with_keys(connection: AsyncConnection, wanted: Select[Any]) -> list[Removable]:
    found: dict[str, Removable] = {job_id: Removable(job_id) for job_id in await connection.scalars(wanted)}
    made = await connection.execute(select(images.c.job_id, images.c.key).where(images.c.job_id.in_(list(found))))
    for job_id, key in made:
        found[job_id].keys.append(key)
    return list(found.values())
