"""Opens what the settings name: the job tracker and the image storage."""

from __future__ import annotations

from deployments.job_tracker import JobTracker, TrackerSettings
from deployments.remote_tracker import remote_tracker
from deployments.settings import Settings
from deployments.storage.base import Storage
from deployments.storage.local import LocalStorage
from deployments.tracker_actor import connect_tracker


def open_tracker(settings: Settings) -> JobTracker:
    """The cluster's job tracker, started if need be. Blocks until it answers."""
    return remote_tracker(
        connect_tracker(
            TrackerSettings(
                database_url=settings.resolved_database_url,
                queue_limit=settings.queue.limit,
                max_attempts=settings.queue.max_attempts,
                lease_seconds=settings.queue.lease_seconds,
            )
        )
    )


def open_storage(settings: Settings) -> Storage:
    """The image storage."""
    return LocalStorage(settings.images_dir)
