"""Waits for news of a job, as those do who follow it."""

from __future__ import annotations

from deployments.jobs.records.jobs import Job
from deployments.tracker.job_tracker import JobTracker

LONG = 100.0  # seconds that no test waits for: what waits is woken, or the test fails at its timeout


async def news_of(tracker: JobTracker, job: Job) -> Job:
    """Return a job as soon as there is news of it."""
    cursor, now = None, job
    while now.version == job.version:
        changes = await tracker.changes(cursor, LONG)
        cursor, now = changes.cursor, await tracker.jobs.get(job.id)
    return now
