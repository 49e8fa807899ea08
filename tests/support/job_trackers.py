"""Trackers in the test's own process, and jobs for them."""

from __future__ import annotations

from deployments.jobs.records.jobs import Job, JobRequest
from deployments.tracker.job_tracker import JobTracker


async def submit_to(tracker: JobTracker, job_id: str, request: JobRequest) -> Job:
    (job,) = await tracker.submit_all({job_id: request})
    return job
