"""Claims jobs at the tracker and sends them to the model deployments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import uuid4

from ray.exceptions import RayActorError

from deployments.background import TaskSet, repeat_forever
from deployments.jobs.records.jobs import Claim, JobPhase
from deployments.telemetry.logs import about
from deployments.telemetry.traces import dispatch_span
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.progress import ProgressReporter

logger = logging.getLogger(__name__)

_PAUSE_AFTER_ERROR_SECONDS = 1.0


class Dispatcher:
    """Claims as many jobs of each model as its replicas can take, and follows each of them to its end.

    Every ingress replica has one. When a dispatcher dies, its leases lapse; a replica finishes the jobs that it has
    received all the same.

    Args:
        tracker: The job tracker.
        models: Handles of the model deployments, by model id.
        capacity: Jobs of each model that may be under way at once.
        poll_seconds: The longest wait in one call of the tracker.
        report_seconds: Between two renewals of the leases; well below their length.
    """

    def __init__(
        self,
        tracker: JobTracker,
        models: Mapping[str, Any],
        capacity: Mapping[str, int],
        poll_seconds: float,
        report_seconds: float,
    ) -> None:
        self._tracker = tracker
        self._models = models
        self._slots = {model_id: _Slots(capacity[model_id]) for model_id in models}
        self._poll_seconds = poll_seconds
        self._holder = f"dispatcher-{uuid4()}"
        self._reporter = ProgressReporter(tracker, report_seconds, only_news=False)
        self._tasks = TaskSet()

    def start(self) -> None:
        """Begin to dispatch, on the running event loop."""
        for model_id in self._models:
            claiming = repeat_forever(
                partial(self._claim_some, model_id),
                0.0,
                logger,
                f"No jobs of {model_id} could be claimed",
                pause_after_failure=_PAUSE_AFTER_ERROR_SECONDS,
            )
            self._tasks.start(claiming)

    async def close(self) -> None:
        """Stop dispatching; jobs under way go on at their replicas."""
        await self._tasks.close()
        await self._reporter.close()

    async def _claim_some(self, model_id: str) -> None:
        slots = self._slots[model_id]
        free = await slots.wait_for_free()
        for claim in await self._tracker.claim({model_id: free}, self._holder, str(uuid4()), self._poll_seconds):
            slots.take()
            self._tasks.start(self._run(claim, slots))

    async def _run(self, claim: Claim, slots: _Slots) -> None:
        with about(job_id=claim.job_id, model=claim.request.model_id), dispatch_span(claim):
            await self._follow(claim, slots)

    async def _follow(self, claim: Claim, slots: _Slots) -> None:
        try:
            response = self._models[claim.request.model_id].generate.remote(claim)
            with self._reporter.follow(claim, response.cancel) as progress:
                # The replica reports its own phase once it has the job; until then, the model may be starting.
                progress.phase = JobPhase.LOADING_MODEL
                await response
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            await self._give_back(claim, "the replica gave it up")
        except Exception as error:
            await self._give_back(claim, f"the replica was lost ({type(error).__name__})", excused=_was_drained(error))
        finally:
            slots.give_back()

    async def _give_back(self, claim: Claim, reason: str, *, excused: bool = False) -> None:
        """Release the job at once; without this, its lease would have to lapse."""
        logger.warning("Job %s, attempt %d: %s", claim.job_id, claim.fence, reason)
        try:
            if not await self._tracker.confirm_cancel(claim.job_id, claim.fence):
                await self._tracker.release(claim.job_id, claim.fence, reason, excused=excused)
        except Exception:
            logger.exception("Job %s could not be given back; its lease will lapse", claim.job_id)


class _Slots:
    """Counts how many more jobs may be under way."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._some_free = asyncio.Event()
        self._some_free.set()

    async def wait_for_free(self) -> int:
        """Wait until there is a free slot; returns how many there are."""
        await self._some_free.wait()
        return self._free

    def take(self) -> None:
        self._free -= 1
        if self._free <= 0:
            self._some_free.clear()

    def give_back(self) -> None:
        self._free += 1
        self._some_free.set()


def _was_drained(error: Exception) -> bool:
    """Whether the replica died with a node that was being drained, at the drain's deadline: no fault of the job's."""
    return isinstance(error, RayActorError) and error.preempted


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
