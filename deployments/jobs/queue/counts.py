"""Counts of jobs by state, and statistics of those that have ended."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta

from sqlalchemy import func, select

from deployments.jobs.database.tables import HAS_ENDED, WAITS, images, jobs, lanes, tallies
from deployments.jobs.records.jobs import JobState, Record
from deployments.jobs.transaction.operations import Operations, reads, reads_clock

RATED_TIME = timedelta(minutes=10)


class StateCounts(Record):
    """Jobs in each state."""

    pending: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """Jobs in any state."""
        return self.pending + self.processing + self.completed + self.failed + self.cancelled


class QueueCounts(StateCounts):
    """Jobs in each state: of all models, and of each model that ever had a job."""

    models: dict[str, StateCounts]


class DetailedCounts(QueueCounts):
    """Counts, and statistics of the jobs that have ended."""

    recent_24h: int
    """Jobs that were submitted within the last 24 hours."""
    avg_processing_time_seconds: float
    """From claim to completion, over all completed jobs; 0 where there is none."""
    failure_rate: float
    """Failed jobs as a share (0 to 1) of the completed and the failed ones; 0 where there is none."""
    images_per_minute: dict[str, float]
    """Images of the last ten minutes, per minute, by model; those that were deleted do not count."""


class Counts(Operations):
    """Numbers of jobs, from tallies that every change keeps up to date."""

    @reads
    async def by_state(self) -> QueueCounts:
        """Count the jobs in each state, of all models and of each."""
        found = await self.connection.execute(
            select(tallies.c.state, tallies.c.model_id, func.sum(tallies.c.jobs)).group_by(
                tallies.c.state, tallies.c.model_id
            )
        )
        total: Counter[str] = Counter()
        models: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for state, model_id, count in found:
            total[state] += count
            models[model_id][state] = count
        of_models = {model_id: StateCounts(**counts) for model_id, counts in sorted(models.items())}
        return QueueCounts(**total, models=of_models)

    @reads_clock
    async def in_detail(self) -> DetailedCounts:
        """As :meth:`by_state`, with statistics of the jobs that have ended."""
        counts = await self.by_state()
        since = self.transaction.now - timedelta(hours=24)
        recent = await self.connection.scalar(select(func.count()).where(jobs.c.created_at > since))
        average = await self.connection.scalar(
            select(func.avg(jobs.c.processing_seconds)).where(jobs.c.state == JobState.COMPLETED)
        )
        # By way of their jobs, whose ends are indexed: images are recorded as their job completes.
        made = await self.connection.execute(
            select(images.c.model_id, func.count())
            .join_from(jobs, images, images.c.job_id == jobs.c.id)
            .where(HAS_ENDED, jobs.c.completed_at > self.transaction.now - RATED_TIME)
            .group_by(images.c.model_id)
        )
        minutes = RATED_TIME / timedelta(minutes=1)
        ended = counts.completed + counts.failed
        return DetailedCounts(
            **dict(counts),
            recent_24h=recent or 0,
            avg_processing_time_seconds=average or 0.0,
            failure_rate=counts.failed / ended if ended else 0.0,
            images_per_minute={model_id: number / minutes for model_id, number in made},
        )

    async def pending(self, model_id: str | None = None) -> int:
        """Return how many jobs are pending, of one model or of all."""
        pending = select(func.sum(tallies.c.jobs)).where(tallies.c.state == JobState.PENDING)
        if model_id is not None:
            pending = pending.where(tallies.c.model_id == model_id)
        return await self.connection.scalar(pending) or 0

    async def pending_of_client(self, client: str) -> int:
        """Return how many jobs of a client are pending, of all models; without those that pause between attempts."""
        pending = select(func.sum(lanes.c.pending)).where(lanes.c.client == client, WAITS)
        return await self.connection.scalar(pending) or 0

    async def open_of_client(self, client: str) -> int:
        """Return how many jobs of a client wait, pause or run, of all models."""
        is_open = (jobs.c.client == client, jobs.c.completed_at.is_(None))
        return await self.connection.scalar(select(func.count()).where(*is_open)) or 0
