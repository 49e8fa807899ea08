"""Reports to the tracker where jobs stand, which renews their leases and returns the jobs to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deployments.jobs.records.jobs import Claim, JobPhase, ProgressReport
from deployments.telemetry.logs import about_nobody
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.previews import encode_preview

logger = logging.getLogger(__name__)


@dataclass
class JobProgress:
    """Where one claimed job stands; whoever works on it keeps it up to date.

    Attributes:
        claim: The right to work on it.
        stop: Called once when the job must stop: it was cancelled, or another attempt has it.
        phase: What is being done.
        step: Denoising steps done, over all images.
        preview: Of its newest image: red, green and blue of shape (height, width, 3).
    """

    claim: Claim
    stop: Callable[[], None]
    phase: JobPhase = JobPhase.PREPARING
    step: int = 0
    preview: NDArray[np.uint8] | None = None

    def report(self) -> ProgressReport:
        """Return the report for the tracker."""
        return ProgressReport(
            job_id=self.claim.job_id,
            fence=self.claim.fence,
            phase=self.phase,
            step=self.step,
            preview=None if self.preview is None else encode_preview(self.preview),
        )


class ProgressReporter:
    """Reports all followed jobs in one call per interval.

    Args:
        tracker: The job tracker.
        interval_seconds: Between two reports; well below the lease.
        only_news: Whether jobs without news are left out, except every tenth time, to renew their leases.
    """

    def __init__(self, tracker: JobTracker, interval_seconds: float, *, only_news: bool = True) -> None:
        self._tracker = tracker
        self._interval_seconds = interval_seconds
        self._only_news = only_news
        self._followed: dict[tuple[str, int], JobProgress] = {}
        self._sent: dict[tuple[str, int], ProgressReport] = {}
        self._rounds = 0
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, claim: Claim, stop: Callable[[], None]) -> Iterator[JobProgress]:
        """Report a job for as long as the block runs."""
        key = (claim.job_id, claim.fence)
        progress = self._followed[key] = JobProgress(claim, stop)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._report_while_any(), context=about_nobody())
        try:
            yield progress
        finally:
            self._followed.pop(key, None)
            self._sent.pop(key, None)

    async def report_now(self) -> None:
        """Send one report of all that have news."""
        self._rounds += 1
        renew = not self._only_news or self._rounds % 10 == 0
        followed = dict(self._followed)
        reports = {key: progress.report() for key, progress in followed.items()}
        news = {key: report for key, report in reports.items() if renew or self._sent.get(key) != report}
        if not news:
            return
        stopped = await self._tracker.report(list(news.values()))
        self._sent.update({key: report for key, report in news.items() if key in self._followed})
        for key in news:
            if key[0] in stopped and self._followed.pop(key, None) is not None:
                followed[key].stop()

    async def _report_while_any(self) -> None:
        while self._followed:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.report_now()
            except Exception:
                logger.exception("The tracker took no report; it will be tried again")

    async def close(self) -> None:
        """Stop reporting."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
