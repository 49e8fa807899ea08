"""Brings the jobs of many requests at once to the job tracker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from deployments.job_tracker import JobTracker
from deployments.jobs.api_keys import KeyLimits
from deployments.jobs.records import Job, JobRequest

MOST_TOGETHER = 64


@dataclass(frozen=True)
class _Waiting:
    job_id: str
    request: JobRequest
    answer: asyncio.Future[Job] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Intake:
    """Submits jobs; those that come while a call of the tracker is under way go together in the next one.

    A call and its transaction cost about the same for one job as for many, so a busy service takes in several times as
    many jobs, and an idle one waits for nothing: the "group commit" of databases.

    Args:
        tracker: The job tracker.
    """

    def __init__(self, tracker: JobTracker) -> None:
        self._tracker = tracker
        self._waiting: dict[KeyLimits, list[_Waiting]] = {}
        self._calls: dict[KeyLimits, asyncio.Task[None]] = {}

    async def submit(self, job_id: str, request: JobRequest, limits: KeyLimits) -> Job:
        """Submit a job as :meth:`JobTracker.submit`, and raise what that raises.

        Args:
            job_id: The job's id.
            request: What it asks for.
            limits: Of the API key that asks; only jobs with the same limits go together.
        """
        mine = _Waiting(job_id, request)
        self._waiting.setdefault(limits, []).append(mine)
        if limits not in self._calls:
            # Kept until it ends: a task that nobody holds may be collected.
            self._calls[limits] = asyncio.create_task(self._call_while_any(limits))
        return await mine.answer

    async def _call_while_any(self, limits: KeyLimits) -> None:
        try:
            while waiting := self._waiting.pop(limits, []):
                together, later = waiting[:MOST_TOGETHER], waiting[MOST_TOGETHER:]
                if later:
                    self._waiting[limits] = later
                await self._call(together, limits)
        finally:
            del self._calls[limits]

    async def _call(self, together: list[_Waiting], limits: KeyLimits) -> None:
        try:
            ends = await self._tracker.submit_each([(each.job_id, each.request) for each in together], limits)
        except Exception as error:
            for each in together:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each, end in zip(together, ends, strict=True):
            if each.answer.done():  # whoever asked has gone
                continue
            if isinstance(end, Exception):
                each.answer.set_exception(end)
            else:
                each.answer.set_result(end)
