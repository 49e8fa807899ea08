"""Claims of jobs, the leases that they hold, and reports of progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, bindparam, select, update

from deployments.jobs.database.rows import lock_jobs, request_of
from deployments.jobs.database.tables import jobs
from deployments.jobs.queue.deadlines import Deadlines
from deployments.jobs.records.jobs import Claim, JobPhase, JobState, PriorityClass, ProgressReport
from deployments.jobs.transaction.lanes import await_lane, newest_turn, next_jobs
from deployments.jobs.transaction.operations import Operations, changes


@dataclass(frozen=True)
class Lease:
    """What a claim writes into its jobs: the holder, the call, and when the lease lapses."""

    holder: str
    claim_id: str
    until: datetime


class Claims(Operations):
    """Jobs from their claim to the end of the attempt."""

    @changes
    async def claim(
        self, capacity: Mapping[str, int], holder: str, claim_id: str, lease_time: timedelta
    ) -> list[Claim]:
        """Claim pending jobs: of each model by class of priority, then round robin among clients, oldest jobs first.

        Jobs of paused models, jobs that pause between attempts and jobs that have expired are not claimed.

        Args:
            capacity: How many jobs of each model id may be claimed.
            holder: Who claims them; for messages and logs.
            claim_id: Names this call. Repeated, it returns those of its jobs that are still its own, and no others.
            lease_time: How long the jobs are kept for the holder unless reports renew the lease.
        """
        lease = Lease(holder, claim_id, self.transaction.now + lease_time)
        earlier = await self._claimed_by(lease)
        if earlier:
            return await self._renew(earlier, lease)
        free = {model_id: count for model_id, count in sorted(capacity.items()) if count > 0}
        await Deadlines(self.transaction).settle()
        claims = await self._take_next(free, lease)
        if not claims:
            model_id = await await_lane(self.connection, list(free))
            if model_id is not None:
                claims = await self._take_next({model_id: free[model_id]}, lease)
        return claims

    @changes
    async def report(self, reporters: Sequence[Sequence[ProgressReport]], lease_time: timedelta) -> list[set[str]]:
        """Note where jobs stand and renew their leases, in two statements, however many jobs there are.

        Args:
            reporters: The reports of each reporter.
            lease_time: How long the leases hold from now.

        Returns:
            For each reporter, ids of the jobs that it must stop: another attempt has them, they have ended, they are
            unknown, or their cancellation was requested (see :meth:`Attempts.confirm_cancel`). Nothing is noted of
            these.
        """
        rows = await lock_jobs(self.connection, {report.job_id for each in reporters for report in each})
        noted: dict[str, tuple[JobPhase, int]] = {}
        stops = []
        for reports in reporters:
            stop = set()
            for report in reports:
                row = rows.get(report.job_id)
                if row is None or not is_current(row, report.fence) or row["cancel_requested"]:
                    stop.add(report.job_id)
                    continue
                phase, step = noted.get(report.job_id, (row["phase"], row["step"]))
                noted[report.job_id] = _later(phase, report.phase), max(report.step, step)
            stops.append(stop)
        await self._note(noted, self.transaction.now + lease_time)
        return stops

    async def _note(self, noted: Mapping[str, tuple[JobPhase, int]], lease_until: datetime) -> None:
        if not noted:
            return
        rows = [
            {"reported": job_id, "phase": phase, "step": step, "lease_until": lease_until}
            for job_id, (phase, step) in noted.items()
        ]
        await self.connection.execute(update(jobs).where(jobs.c.id == bindparam("reported")), rows)

    async def _claimed_by(self, lease: Lease) -> list[RowMapping]:
        found = await self.connection.execute(
            select(jobs)
            .where(jobs.c.claim_id == lease.claim_id, jobs.c.holder == lease.holder)
            .order_by(jobs.c.id)
            .with_for_update()
        )
        return sorted(found.mappings(), key=lambda row: row["turn"])

    async def _renew(self, rows: Iterable[RowMapping], lease: Lease) -> list[Claim]:
        current = [row for row in rows if row["state"] == JobState.PROCESSING]
        await self.connection.execute(
            update(jobs).where(jobs.c.id.in_([row["id"] for row in current])).values(lease_until=lease.until)
        )
        return [claim_of(row, fence=row["attempts"]) for row in current]

    async def _take_next(self, free: Mapping[str, int], lease: Lease) -> list[Claim]:
        connection = self.connection
        turn = await newest_turn(connection)
        ids = [
            job_id
            for model_id, count in free.items()
            for job_id in await next_jobs(connection, model_id, count, self.transaction.now)
        ]
        if not ids:
            return []
        rows = await lock_jobs(connection, ids)
        turns = {job_id: turn + place for place, job_id in enumerate(ids, start=1)}
        await self._take(turns, lease)
        for job_id in ids:
            self.transaction.ledger.claimed(rows[job_id], turns[job_id])
        return [claim_of(rows[job_id], fence=rows[job_id]["attempts"] + 1) for job_id in ids]

    async def _take(self, turns: Mapping[str, int], lease: Lease) -> None:
        taken = (
            update(jobs)
            .where(jobs.c.id == bindparam("taken"))
            .values(
                state=JobState.PROCESSING,
                phase=JobPhase.PREPARING,
                step=0,
                attempts=jobs.c.attempts + 1,
                message="",
                started_at=self.transaction.now,
                holder=lease.holder,
                claim_id=lease.claim_id,
                lease_until=lease.until,
                turn=bindparam("turn_taken"),
            )
        )
        rows = [{"taken": job_id, "turn_taken": turn} for job_id, turn in turns.items()]
        await self.connection.execute(taken, rows)


def _later(noted: str | None, reported: JobPhase) -> JobPhase:
    """Dispatcher and replica both report an attempt; the one who is behind does not reset the phase."""
    return reported if noted is None else max(JobPhase(noted), reported, key=lambda phase: phase.rank)


def is_current(row: RowMapping, fence: int) -> bool:
    """Whether the attempt with this fence is the one that runs the job."""
    return bool(row["state"] == JobState.PROCESSING and row["attempts"] == fence)


def claim_of(row: RowMapping, fence: int) -> Claim:
    """Return the record of a claim of a job, by its row and the claim's number."""
    return Claim(
        job_id=row["id"],
        request=request_of(row),
        fence=fence,
        created_at=row["created_at"],
        priority=PriorityClass.of_rank(row["priority"]),
    )
