"""Deletion of jobs with their images: on request, or above the limits of what is kept."""

from __future__ import annotations

import logging
from datetime import timedelta

from deployments.background import TaskSet, repeat_forever
from deployments.jobs.queue.administration import Removable, RetentionLimits
from deployments.jobs.records.jobs import JobState
from deployments.settings.service import RetentionSettings
from deployments.storage.base import Storage
from deployments.storage.thumbnails import delete_image_files
from deployments.tracker.job_tracker import JobTracker

logger = logging.getLogger(__name__)

JOBS_AT_ONCE = 100
WHO = "retention"


async def clear_jobs(tracker: JobTracker, storage: Storage, state: JobState, most: int, who: str) -> int:
    """Cancel pending jobs, or forget jobs that have ended, with their images.

    Args:
        tracker: The job tracker.
        storage: Where the images are.
        state: Of the jobs; not ``processing``.
        most: Jobs that are cleared in this call; a multiple of 100.
        who: Who wants it.

    Returns:
        How many jobs were cleared; below ``most`` if none is left.

    Raises:
        StorageError: An image could not be deleted; its job and those behind it are still there.
    """
    cleared = 0
    while cleared < most:
        if state is JobState.PENDING:
            done = await tracker.administration.cancel_pending(JOBS_AT_ONCE, who)
        else:
            done = await _forget(tracker, storage, await tracker.administration.removable(state, JOBS_AT_ONCE), who)
        cleared += done
        if not done:
            break
    return cleared


class Retention:
    """Forgets jobs that are kept no longer, at regular times; every ingress replica may have one.

    Args:
        tracker: The job tracker.
        storage: Where the images are.
        settings: What is kept.
    """

    def __init__(self, tracker: JobTracker, storage: Storage, settings: RetentionSettings) -> None:
        age = settings.max_age_seconds
        self._tracker = tracker
        self._storage = storage
        self._limits = RetentionLimits(
            age=None if age is None else timedelta(seconds=age),
            jobs=settings.max_jobs,
            image_bytes=settings.max_image_bytes,
        )
        self._pause = settings.interval_seconds
        self._tasks = TaskSet()

    def start(self) -> None:
        """Begin, on the running event loop; where everything is kept there is nothing to do."""
        if self._limits != RetentionLimits():
            failure = "What is kept no longer could not be removed"
            self._tasks.start(repeat_forever(self._forget_all, self._pause, logger, failure))

    async def close(self) -> None:
        """Stop; the next pass does the rest."""
        await self._tasks.close()

    async def forget_some(self) -> int:
        """Forget up to 100 jobs that are kept no longer, with their images, and return how many."""
        found = await self._tracker.administration.removable_by(self._limits, JOBS_AT_ONCE)
        return await _forget(self._tracker, self._storage, found, WHO)

    async def _forget_all(self) -> None:
        while await self.forget_some():
            pass


async def _forget(tracker: JobTracker, storage: Storage, jobs: list[Removable], who: str) -> int:
    """The records go last: what fails halfway can be repeated."""
    for job in jobs:
        for key in job.keys:
            await delete_image_files(storage, key)
    return await tracker.administration.remove([job.job_id for job in jobs], who) if jobs else 0
