"""Claims: who runs which job, for how long, and where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.queue import in_turn
from deployments.jobs.records import Claim, JobPhase, JobState, ProgressReport
from deployments.jobs.rows import lock_job, request_of
from deployments.jobs.tables import jobs


@dataclass(frozen=True)
class Lease:
    """What a claim writes into its jobs: whose they are, by which call, until when."""

    holder: str
    claim_id: str
    until: datetime


@dataclass(frozen=True)
class Claims:
    """What those who run jobs do before they end, within one transaction at one time."""

    connection: AsyncConnection
    now: datetime

    async def claim(self, capacity: Mapping[str, int], lease: Lease) -> list[Claim]:
        """See :meth:`JobStore.claim`."""
        earlier = await self._claimed_by(lease)
        if earlier:
            return await self._renew(earlier, lease)
        turn = await self.connection.scalar(select(func.max(jobs.c.turn))) or 0
        claims = []
        for model_id, free in capacity.items():
            if free < 1:
                continue
            for job_id in (await self.connection.scalars(in_turn(model_id).limit(free))).all():
                turn += 1
                claim = await self._take(job_id, lease, turn)
                if claim is not None:
                    claims.append(claim)
        return claims

    async def report(self, reports: Iterable[ProgressReport], lease_until: datetime) -> set[str]:
        """See :meth:`JobStore.report`."""
        stop = set()
        for report in reports:
            row = await lock_job(self.connection, report.job_id)
            if row is None or not is_current(row, report.fence) or row["cancel_requested"]:
                stop.add(report.job_id)
                continue
            await self.connection.execute(
                update(jobs)
                .where(jobs.c.id == report.job_id)
                .values(
                    phase=_later(row["phase"], report.phase),
                    step=max(report.step, row["step"]),
                    lease_until=lease_until,
                )
            )
        return stop

    async def _claimed_by(self, lease: Lease) -> list[RowMapping]:
        found = await self.connection.execute(
            select(jobs)
            .where(jobs.c.claim_id == lease.claim_id, jobs.c.holder == lease.holder)
            .order_by(jobs.c.turn)
            .with_for_update()
        )
        return list(found.mappings())

    async def _renew(self, rows: Iterable[RowMapping], lease: Lease) -> list[Claim]:
        current = [row for row in rows if row["state"] == JobState.PROCESSING]
        await self.connection.execute(
            update(jobs).where(jobs.c.id.in_([row["id"] for row in current])).values(lease_until=lease.until)
        )
        return [claim_of(row) for row in current]

    async def _take(self, job_id: str, lease: Lease, turn: int) -> Claim | None:
        # Where writers do not exclude each other, another one may have been faster: then no row matches.
        taken = await self.connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == JobState.PENDING)
            .values(
                state=JobState.PROCESSING,
                phase=JobPhase.PREPARING,
                step=0,
                attempts=jobs.c.attempts + 1,
                message="",
                started_at=self.now,
                holder=lease.holder,
                claim_id=lease.claim_id,
                lease_until=lease.until,
                turn=turn,
            )
            .returning(jobs)
        )
        row = taken.mappings().one_or_none()
        return None if row is None else claim_of(row)


def _later(noted: str | None, reported: JobPhase) -> JobPhase:
    """Dispatcher and replica both report an attempt; the one who is behind does not take it back."""
    return reported if noted is None else max(JobPhase(noted), reported, key=lambda phase: phase.rank)


def is_current(row: RowMapping, fence: int) -> bool:
    """Whether the attempt with this fence is the one that runs the job."""
    return bool(row["state"] == JobState.PROCESSING and row["attempts"] == fence)


def claim_of(row: RowMapping) -> Claim:
    """Return the record of a job's newest claim."""
    return Claim(job_id=row["id"], request=request_of(row), fence=row["attempts"], created_at=row["created_at"])
