"""Trackers in the test's own process, and jobs for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from deployments.jobs.parts import OpenParts
from deployments.jobs.records.jobs import Job, JobRequest
from deployments.jobs.transaction.operations import set_parts
from deployments.settings.service import QueueSettings, WebhookSettings
from deployments.settings.tracker import TrackerSettings
from deployments.settings.upkeep import QuotaSettings
from deployments.tracker.job_tracker import JobTracker

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


class StandIn(OpenParts):
    """Stands in for a tracker: all of its calls do the same.

    Args:
        answer: Does it.
    """

    def __init__(self, answer: Callable[[], Awaitable[Any]]) -> None:
        self._answer = answer
        set_parts(self, OpenParts, self.call)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return lambda *_args, **_kwargs: self._answer()


def raising(error: Exception) -> StandIn:
    """A tracker all of whose calls raise an error."""

    async def fail() -> None:
        raise error

    return StandIn(fail)


async def submit_to(tracker: JobTracker, job_id: str, request: JobRequest) -> Job:
    (job,) = await tracker.submit_all({job_id: request})
    return job
