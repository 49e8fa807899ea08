"""The job tracker: the named actor through which a cluster speaks with its job store."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from deployments.background import repeat_forever
from deployments.jobs.database.database import REFUSED_ROWS
from deployments.jobs.queue.attempts import Completion
from deployments.jobs.queue.counts import DetailedCounts, QueueCounts
from deployments.jobs.queue.limits import QueueLimits
from deployments.jobs.queue.listing import JobFilter, JobPage
from deployments.jobs.queue.views import JobView
from deployments.jobs.records.api_keys import NO_LIMITS, KeyLimits
from deployments.jobs.records.exceptions import JobError, StoreUnavailableError, UnknownJobError
from deployments.jobs.records.jobs import (
    Claim,
    Job,
    JobRequest,
    JobState,
    NewImage,
    PriorityClass,
    ProgressReport,
)
from deployments.jobs.store import Clock, JobStore, utc_now
from deployments.jobs.transaction.backoff import Backoff
from deployments.jobs.transaction.ledger import Moves
from deployments.settings.service import WebhookSettings
from deployments.telemetry.measuring import note_queue, repeat
from deployments.tracker.administration import TrackerAdministration
from deployments.tracker.changes import ChangeLog, Changes
from deployments.tracker.choices import ModelChoices, TrackerChoices
from deployments.tracker.deadline_timer import DeadlineTimer
from deployments.tracker.gallery import TrackerGallery
from deployments.tracker.group_commit import GroupCommit
from deployments.tracker.model_loads import ModelLoads
from deployments.tracker.model_state import ModelConditions
from deployments.tracker.models import TrackerModels
from deployments.tracker.pictures import TrackerPictures
from deployments.tracker.previews import Previews
from deployments.tracker.protection import TrackerProtection
from deployments.tracker.rate_windows import RateWindows
from deployments.tracker.settings import TrackerSettings, fingerprint
from deployments.tracker.step_rates import StepRates
from deployments.tracker.wakeups import Wakeups
from deployments.tracker.webhooks import Courier

logger = logging.getLogger(__name__)

PREVIEWED_JOBS = 1000
MOST_REPORTERS, MOST_COMPLETIONS = 256, 64  # that share a transaction

# Topics: what may be claimable, and any change of a job.
_QUEUE, _CHANGES = "queue", "changes"


class JobTracker(
    TrackerGallery, TrackerPictures, TrackerProtection, TrackerAdministration, TrackerChoices, TrackerModels
):
    """The job store behind an actor, with long polls and a reaper.

    The store is opened by the first call that needs it, so that the actor is up even where its database is not. Every
    method may be repeated; each raises what the method of :class:`JobStore` with its name raises.

    Args:
        database_url: An SQLAlchemy URL with an async driver.
        queue_limit: Pending jobs of all models above which submits are refused.
        max_attempts: Claims of a job after which it fails instead of being put back.
        lease_seconds: How long a claim holds without a report.
        queue_limit_per_model: Pending jobs of a model above which submits for it are refused; None for no limit.
        queue_limit_per_client: Pending jobs of a client above which its submits are refused; None for no limit.
        retry_base_seconds: As :attr:`Backoff.base_seconds`.
        retry_cap_seconds: As :attr:`Backoff.cap_seconds`.
        quota_images: Images of a client above which its submits are refused; None for no limit.
        quota_bytes: Bytes of a client's images from which on its submits are refused; None for no limit.
        webhooks: Fields of :class:`WebhookSettings`.
        resources: Custom resources of the node that it was put on; it is replaced where they change.
        clock: Gives the time as an aware datetime; None for the database's own clock.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        *,
        database_url: str,
        queue_limit: int = 1000,
        max_attempts: int = 3,
        lease_seconds: float = 60.0,
        queue_limit_per_model: int | None = None,
        queue_limit_per_client: int | None = None,
        retry_base_seconds: float = 0.0,
        retry_cap_seconds: float = 60.0,
        quota_images: int | None = None,
        quota_bytes: int | None = None,
        webhooks: dict[str, Any] | None = None,
        resources: dict[str, float] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = TrackerSettings(
            database_url=database_url,
            queue_limit=queue_limit,
            max_attempts=max_attempts,
            lease_seconds=lease_seconds,
            queue_limit_per_model=queue_limit_per_model,
            queue_limit_per_client=queue_limit_per_client,
            retry_base_seconds=retry_base_seconds,
            retry_cap_seconds=retry_cap_seconds,
            quota_images=quota_images,
            quota_bytes=quota_bytes,
        )
        if webhooks is not None:
            self._settings["webhooks"] = webhooks
        if resources is not None:
            self._settings["resources"] = resources
        self._lease = timedelta(seconds=lease_seconds)
        self._limits = QueueLimits(
            queue_limit,
            queue_limit_per_model,
            queue_limit_per_client,
            owner_images=quota_images,
            owner_bytes=quota_bytes,
        )
        self._backoff = Backoff(retry_base_seconds, retry_cap_seconds)
        self._clock = clock
        self._opening = asyncio.Lock()
        self._opened: JobStore | None = None
        self._courier: Courier | None = None
        self._timer: DeadlineTimer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._wakeups = Wakeups()
        self._changes = ChangeLog()
        self._rates = StepRates(time.monotonic if clock is None else lambda: clock().timestamp())
        self._models = ModelConditions(clock or utc_now)
        self._loads = ModelLoads(clock or utc_now)
        self._previews = Previews(PREVIEWED_JOBS)
        self._windows = RateWindows()
        self._choices = ModelChoices()
        self._reports = GroupCommit(self._write_reports, MOST_REPORTERS)
        self._completions = GroupCommit(self._write_completions, MOST_COMPLETIONS, apart=REFUSED_ROWS)

    async def _store(self) -> JobStore:
        async with self._opening:
            if self._opened is None:
                url = self._settings["database_url"]
                self._opened = await JobStore.open(url, self._clock, self._backoff, self._note_moves)
                self._courier = Courier(self._opened, WebhookSettings(**self._settings.get("webhooks", {})))
                self._timer = DeadlineTimer(self._opened)
                forever = (
                    self._reap_forever,
                    self._courier.run_forever,
                    self._timer.run_forever,
                    partial(repeat, self._measure),
                )
                self._tasks = [asyncio.create_task(work()) for work in forever]
            return self._opened

    async def close(self) -> None:
        """Stop what runs in the background, and close the store."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._opened is not None:
            await self._opened.close()

    async def describe(self) -> dict[str, Any]:
        """Say who this is and how it is: ``fingerprint``, ``pid``, ``database`` (``"ok"`` or what is wrong).

        A plain dict: the one who asks may run another version of the package.
        """
        try:
            await (await self._store()).check()
        except StoreUnavailableError as error:
            database = str(error)
        else:
            database = "ok"
        return {"fingerprint": fingerprint(self._settings), "pid": os.getpid(), "database": database}

    async def submit(self, job_id: str, request: JobRequest, of_key: KeyLimits = NO_LIMITS) -> Job:
        """Put a job into the queue, or return the one that already has this id; within its key's limits."""
        return await (await self._store()).submit(job_id, request, replace(self._limits, key=of_key))

    async def submit_each(
        self, submits: Sequence[tuple[str, JobRequest]], of_key: KeyLimits = NO_LIMITS
    ) -> list[Job | JobError]:
        """As :meth:`submit` of each; in place of a job that is refused, the error says why."""
        return await (await self._store()).submit_each(submits, replace(self._limits, key=of_key))

    async def submit_all(self, wanted: Mapping[str, JobRequest], of_key: KeyLimits = NO_LIMITS) -> list[Job]:
        """Put jobs into the queue, by their ids: all or none; where some of the ids are taken, return their jobs."""
        return await (await self._store()).submit_all(wanted, replace(self._limits, key=of_key))

    async def retry(self, job_id: str, new_id: str, who: str, of_key: KeyLimits = NO_LIMITS) -> Job:
        """Submit what a failed or cancelled job asked for once more, as a new job with this id."""
        return await (await self._store()).retry(job_id, new_id, replace(self._limits, key=of_key), who)

    async def reprioritize(self, job_id: str, priority: PriorityClass, who: str) -> Job:
        """Give a pending job another class of priority."""
        return await (await self._store()).reprioritize(job_id, priority, who)

    async def get(self, job_id: str) -> Job:
        """Return a job."""
        return await (await self._store()).get(job_id)

    async def view(self, job_id: str) -> JobView:
        """Return a job as :meth:`get_many` does."""
        views = await self.get_many([job_id])
        if job_id not in views:
            raise UnknownJobError(f"There is no job {job_id}.")
        return views[job_id]

    async def get_many(self, job_ids: Sequence[str]) -> dict[str, JobView]:
        """Return those of some jobs that there are, with all that is told beside their records."""
        sight = await (await self._store()).get_many(job_ids)
        found = {}
        for job_id, view in sight.views.items():
            running = sight.steps_left.get(view.job.request.model_id, ())
            loading = self._load_of(view.job)
            seconds_left = self._rates.seconds_left(view.job, view.queue_position, running)
            if seconds_left is not None and loading is not None:
                seconds_left += loading.rest_seconds or 0.0
            found[job_id] = replace(
                view,
                eta_seconds=seconds_left,
                loading=loading,
                preview=self._previews.get(job_id) if view.job.state is JobState.PROCESSING else None,
            )
        return found

    async def jobs_of_clients(self, ended_since: Mapping[str, datetime]) -> list[str]:
        """Return ids of clients' jobs that are open, or ended at or after the time that is given for each client."""
        return await (await self._store()).jobs_of_clients(ended_since)

    async def changes(self, after: str | None, wait_seconds: float) -> Changes:
        """Return which jobs changed after a cursor, as :meth:`ChangeLog.since`; waits while there are none.

        Only what goes through this tracker is told: another one on the same database has changes of its own.
        """

        async def look() -> Changes:
            return self._changes.since(after)

        return await self._wakeups.poll(_CHANGES, look, lambda changes: changes.is_news, wait_seconds)

    async def queue_position(self, job_id: str) -> int | None:
        """Return how many claims of its model it takes to reach a job; None unless it is pending."""
        return await (await self._store()).queue_position(job_id)

    async def cancel(self, job_id: str, who: str = "") -> Job:
        """Cancel a pending job, ask for the end of a processing one, leave one that has ended."""
        job = await (await self._store()).cancel(job_id, who)
        self._changed(job_id)
        return job

    async def claim(
        self, capacity: Mapping[str, int], holder: str, claim_id: str, wait_seconds: float = 0.0
    ) -> list[Claim]:
        """Claim as :meth:`JobStore.claim`, waiting up to ``wait_seconds`` for something to claim."""
        store = await self._store()

        async def look() -> list[Claim]:
            return await store.claim(capacity, holder, claim_id, self._lease)

        claims = await self._wakeups.poll(_QUEUE, look, bool, wait_seconds)
        for claim in claims:
            self._rates.claimed(claim)
        return claims

    async def report(self, reports: Sequence[ProgressReport]) -> set[str]:
        """Note where jobs stand, renew their leases, and return the ids of those that the reporter must stop."""
        stop = await self._reports.do(reports)
        for report in reports:
            if report.job_id not in stop:
                self._rates.reported(report)
                if report.preview is not None:
                    self._previews.keep(report.job_id, report.preview)
            self._changed(report.job_id)
        return stop

    async def complete(self, job_id: str, fence: int, images: Sequence[NewImage]) -> bool:
        """End a job with its images; False where this attempt may not, being stale or cancelled."""
        completed = await self._completions.do(Completion(job_id, fence, images))
        if completed:
            self._rates.completed(job_id)
        return completed

    async def fail(self, job_id: str, fence: int, message: str, *, retryable: bool) -> bool:
        """End an attempt that failed; False if it is stale or had completed the job."""
        store = await self._store()
        ended = await store.fail(
            job_id, fence, message, retryable=retryable, max_attempts=self._settings["max_attempts"]
        )
        self._rates.stopped(job_id)
        return ended

    async def release(self, job_id: str, fence: int, reason: str, *, excused: bool = False) -> bool:
        """End an attempt for a reason that is not the job's fault; False if it is stale or had completed the job.

        With ``excused`` the attempt does not count as tried: somebody's wish ended it.
        """
        store = await self._store()
        if excused:
            ended = await store.excuse(job_id, fence, reason)
        else:
            ended = await store.release(job_id, fence, reason, self._settings["max_attempts"])
        self._rates.stopped(job_id)
        return ended

    async def confirm_cancel(self, job_id: str, fence: int) -> bool:
        """Cancel a processing job whose cancellation was requested, now that its attempt has stopped."""
        cancelled = await (await self._store()).confirm_cancel(job_id, fence)
        self._rates.stopped(job_id)
        return cancelled

    async def reap(self) -> list[str]:
        """Release every job whose lease has lapsed, and return their ids; a task of the tracker does it regularly."""
        store = await self._store()
        await store.shorten_leases(self._lease)
        reaped = await store.reap(self._settings["max_attempts"])
        for job_id in reaped:
            logger.warning("The lease of job %s had lapsed", job_id)
            self._rates.stopped(job_id)
        return reaped

    async def preview(self, job_id: str) -> bytes | None:
        """Return what a job's image looks like so far, as a small WebP; None where that is not known."""
        return self._previews.get(job_id)

    async def list_jobs(self, wanted: JobFilter, limit: int = 50, cursor: str | None = None) -> JobPage:
        """Return a page of jobs, newest first."""
        return await (await self._store()).list_jobs(wanted, limit, cursor)

    async def counts(self) -> QueueCounts:
        """Count the jobs in each state, of all models and of each."""
        return await (await self._store()).counts()

    async def detailed_counts(self) -> DetailedCounts:
        """As :meth:`counts`, with how the jobs fared."""
        return await (await self._store()).detailed_counts()

    async def reset(self, who: str) -> list[str]:
        """As :meth:`reap`, because somebody asked for it."""
        reset = await (await self._store()).administration.reset(self._settings["max_attempts"], who)
        for job_id in reset:
            self._rates.stopped(job_id)
        return reset

    async def _write_reports(self, reporters: Sequence[Sequence[ProgressReport]]) -> list[set[str]]:
        return await (await self._store()).report_each(reporters, self._lease)

    async def _write_completions(self, completions: Sequence[Completion]) -> list[bool]:
        return await (await self._store()).complete_each(completions)

    def _note_moves(self, moves: Moves) -> None:
        for job_id in moves.jobs:
            self._changed(job_id)
        if moves.has_claimable:
            self._wakeups.wake(_QUEUE)
        if moves.deadline is not None and self._timer is not None:
            self._timer.plan(moves.deadline)
        if moves.has_ended and self._courier is not None:
            self._courier.wake()

    def _changed(self, job_id: str) -> None:
        """To be called after every change of a job: those who follow it hear of it by this alone."""
        self._changes.note(job_id)
        self._wakeups.wake(_CHANGES)

    async def _measure(self) -> None:
        note_queue(await self.counts(), self._settings["queue_limit"])

    async def _reap_forever(self) -> None:
        pause = self._settings["lease_seconds"] / 3
        await asyncio.sleep(pause)
        await repeat_forever(self.reap, pause, logger, "Reaping failed")
