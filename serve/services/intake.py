"""Brings the jobs of many requests at once to the job tracker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from deployments.jobs.records.api_keys import KeyLimits
from deployments.jobs.records.exceptions import JobError
from deployments.jobs.records.jobs import Job, JobRequest
from deployments.tracker.group_commit import GroupCommit
from deployments.tracker.job_tracker import JobTracker

MOST_TOGETHER = 64

_Submit = tuple[str, JobRequest]


class Intake:
    """Submits jobs; those that come while a call of the tracker is under way go together in the next one.

    Args:
        tracker: The job tracker.
    """

    def __init__(self, tracker: JobTracker) -> None:
        self._tracker = tracker
        self._calls: dict[KeyLimits, GroupCommit[_Submit, Job | JobError]] = {}

    async def submit(self, job_id: str, request: JobRequest, limits: KeyLimits) -> Job:
        """Submit a job as :meth:`JobTracker.submit`, and raise what that raises.

        Args:
            job_id: The job's id.
            request: What it asks for.
            limits: Of the API key that asks; only jobs with the same limits go together.
        """
        if limits not in self._calls:
            self._calls[limits] = GroupCommit(partial(self._call, limits), MOST_TOGETHER)
        end = await self._calls[limits].do((job_id, request))
        if isinstance(end, Exception):
            raise end
        return end

    async def _call(self, limits: KeyLimits, submits: Sequence[_Submit]) -> list[Job | JobError]:
        return await self._tracker.submit_each(submits, limits)
