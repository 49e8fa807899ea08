"""Trackers in the test's own process, and jobs for them."""

from __future__ import annotations

from typing import Any

from deployments.jobs.records.jobs import Job, JobRequest
from deployments.settings.service import QueueSettings, WebhookSettings
from deployments.settings.upkeep import QuotaSettings
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.settings import TrackerSettings

PATIENT = {"retry_base_seconds": 0.0, "lease_seconds": 60.0}


def tracker_settings(
    database_url: str, *, quota: QuotaSettings | None = None, webhooks: WebhookSettings | None = None, **queue: Any
) -> TrackerSettings:
    """Settings with which jobs do not pause between attempts and leases are long, unless ``queue`` says otherwise."""
    return TrackerSettings(
        database_url=database_url,
        queue=QueueSettings(**{**PATIENT, **queue}),
        quota=quota or QuotaSettings(),
        webhooks=webhooks or WebhookSettings(),
    )


def job_tracker(database_url: str, **settings: Any) -> JobTracker:
    """A tracker with the settings that :func:`tracker_settings` makes."""
    return JobTracker(tracker_settings(database_url, **settings))


async def submit_to(tracker: JobTracker, job_id: str, request: JobRequest) -> Job:
    (job,) = await tracker.submit_all({job_id: request})
    return job
