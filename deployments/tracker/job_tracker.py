"""The job tracker: the named actor through which a cluster speaks with its job store."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from deployments.background import repeat_forever
from deployments.clock import utc_now
from deployments.jobs.database.database import REFUSED_ROWS
from deployments.jobs.parts import OpenParts
from deployments.jobs.queue.attempts import Completion
from deployments.jobs.queue.limits import QueueLimits
from deployments.jobs.queue.views import JobView, ModelLoad
from deployments.jobs.records.api_keys import NO_LIMITS, KeyLimits
from deployments.jobs.records.exceptions import JobError, StoreUnavailableError, UnknownJobError
from deployments.jobs.records.jobs import (
    Claim,
    Job,
    JobPhase,
    JobRequest,
    JobState,
    NewImage,
    ProgressReport,
)
from deployments.jobs.store import Clock, JobStore
from deployments.jobs.transaction.backoff import Backoff
from deployments.jobs.transaction.ledger import Moves
from deployments.jobs.transaction.operations import parts_of, set_parts
from deployments.settings.telemetry import LogLevel
from deployments.settings.tracker import TrackerSettings
from deployments.telemetry.logs import set_log_level
from deployments.telemetry.measuring import note_queue, repeat
from deployments.tracker.changes import ChangeLog, Changes
from deployments.tracker.choices import ModelChoices
from deployments.tracker.deadline_timer import DeadlineTimer
from deployments.tracker.group_commit import GroupCommit
from deployments.tracker.model_loads import ModelLoads
from deployments.tracker.model_state import ModelCondition, ModelConditions
from deployments.tracker.previews import Previews
from deployments.tracker.rate_windows import RateWindow, RateWindows
from deployments.tracker.step_rates import StepRates
from deployments.tracker.wakeups import Wakeups
from deployments.tracker.webhooks import Courier

logger = logging.getLogger(__name__)

PREVIEWED_JOBS = 1000
MOST_REPORTERS, MOST_COMPLETIONS = 256, 64  # that share a transaction

# Topics: what may be claimable, and any change of a job.
_QUEUE, _CHANGES = "queue", "changes"

_OPEN_PARTS = parts_of(OpenParts)


class JobTracker(OpenParts):
    """The job store behind an actor, with long polls, a reaper, and what is known of jobs and models in memory.

    The parts of the store that need nothing else are attributes, such as ``tracker.gallery``. The methods add something
    to the store's operations, and raise what these raise. Every call may be repeated.

    The first call that needs the store opens it, so that the actor is up even where its database is not.

    Args:
        settings: Its settings.
        clock: Gives the time as an aware datetime; None for the database's own clock.
    """

    def __init__(self, settings: TrackerSettings, clock: Clock | None = None) -> None:
        queue = settings.queue
        self._settings = settings
        self._lease = timedelta(seconds=queue.lease_seconds)
        self._limits = QueueLimits(
            queue.limit,
            queue.limit_per_model,
            queue.limit_per_client,
            owner_images=settings.quota.images,
            owner_bytes=settings.quota.image_bytes,
        )
        self._backoff = Backoff(queue.retry_base_seconds, queue.retry_cap_seconds)
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
        set_parts(self, OpenParts, self.call)

    async def _store(self) -> JobStore:
        async with self._opening:
            if self._opened is None:
                url = self._settings.database_url
                self._opened = await JobStore.open(url, self._clock, self._backoff, self._note_moves)
                self._courier = Courier(self._opened, self._settings.webhooks)
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
        return {"fingerprint": self._settings.fingerprint, "pid": os.getpid(), "database": database}

    async def call(self, part: str, operation: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call an operation of one of the open parts of the store, as :meth:`JobStore.call`.

        Raises:
            AttributeError: The part is not open, or has no operation of this name.
        """
        if part not in _OPEN_PARTS:
            raise AttributeError(f"The job tracker has no part {part!r}")
        return await (await self._store()).call(part, operation, args, kwargs)

    async def submit_each(
        self, submits: Sequence[tuple[str, JobRequest]], of_key: KeyLimits = NO_LIMITS
    ) -> list[Job | JobError]:
        """As :meth:`Queue.submit_each`, within the settings' limits and the key's."""
        return await (await self._store()).queue.submit_each(submits, replace(self._limits, key=of_key))

    async def submit_all(self, wanted: Mapping[str, JobRequest], of_key: KeyLimits = NO_LIMITS) -> list[Job]:
        """As :meth:`Queue.submit`, within the settings' limits and the key's."""
        return await (await self._store()).queue.submit(wanted, replace(self._limits, key=of_key))

    async def retry(self, job_id: str, new_id: str, who: str, of_key: KeyLimits = NO_LIMITS) -> Job:
        """As :meth:`Queue.retry`, within the settings' limits and the key's."""
        return await (await self._store()).queue.retry(job_id, new_id, replace(self._limits, key=of_key), who)

    async def view(self, job_id: str) -> JobView:
        """Return a job as :meth:`get_many` does."""
        views = await self.get_many([job_id])
        if job_id not in views:
            raise UnknownJobError(f"There is no job {job_id}.")
        return views[job_id]

    async def get_many(self, job_ids: Sequence[str]) -> dict[str, JobView]:
        """Return those of some jobs that exist, with what stands beside their records."""
        sight = await (await self._store()).views.of(job_ids)
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

    async def changes(self, after: str | None, wait_seconds: float) -> Changes:
        """Return which jobs changed after a cursor, as :meth:`ChangeLog.since`; waits while there are none.

        Another tracker on the same database has changes of its own, which are not among them.
        """

        async def look() -> Changes:
            return self._changes.since(after)

        return await self._wakeups.poll(_CHANGES, look, lambda changes: changes.is_news, wait_seconds)

    async def claim(
        self, capacity: Mapping[str, int], holder: str, claim_id: str, wait_seconds: float = 0.0
    ) -> list[Claim]:
        """Claim as :meth:`Claims.claim`, waiting up to ``wait_seconds`` for something to claim."""
        store = await self._store()

        async def look() -> list[Claim]:
            return await store.claims.claim(capacity, holder, claim_id, self._lease)

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
        """End an attempt that failed, as :meth:`Attempts.fail`; unless ``retryable``, no other attempt follows."""
        max_attempts = self._settings.queue.max_attempts if retryable else None
        ended = await (await self._store()).attempts.fail(job_id, fence, message, max_attempts)
        self._rates.stopped(job_id)
        return ended

    async def release(self, job_id: str, fence: int, reason: str, *, excused: bool = False) -> bool:
        """End an attempt for a reason that is not the job's fault, as a retryable :meth:`fail`.

        With ``excused`` the attempt does not count: see :meth:`Attempts.excuse`.
        """
        attempts = (await self._store()).attempts
        if excused:
            ended = await attempts.excuse(job_id, fence, reason)
        else:
            ended = await attempts.fail(job_id, fence, reason, self._settings.queue.max_attempts)
        self._rates.stopped(job_id)
        return ended

    async def confirm_cancel(self, job_id: str, fence: int) -> bool:
        """As :meth:`Attempts.confirm_cancel`."""
        cancelled = await (await self._store()).attempts.confirm_cancel(job_id, fence)
        self._rates.stopped(job_id)
        return cancelled

    async def reap(self) -> list[str]:
        """Release every job whose lease has lapsed, and return their ids; a task of the tracker does it regularly."""
        attempts = (await self._store()).attempts
        await attempts.shorten_leases(self._lease)
        reaped = await attempts.reap(self._settings.queue.max_attempts)
        for job_id in reaped:
            logger.warning("The lease of job %s had lapsed", job_id)
            self._rates.stopped(job_id)
        return reaped

    async def reset(self, who: str) -> list[str]:
        """As :meth:`reap`, on somebody's request."""
        reset = await (await self._store()).administration.reset(self._settings.queue.max_attempts, who)
        for job_id in reset:
            self._rates.stopped(job_id)
        return reset

    async def preview(self, job_id: str) -> bytes | None:
        """Return what a job's image looks like so far, as a small WebP; None where that is not known."""
        return self._previews.get(job_id)

    async def announce_model(self, model_id: str, fingerprint: str, load_failure: str, replica: str) -> None:
        """Note what a copy of a model says of itself, as :meth:`ModelConditions.note`."""
        self._models.note(model_id, fingerprint, load_failure, replica)

    async def announce_load(self, model_id: str, replica: str, seconds: float, *, is_over: bool) -> None:
        """Note how far a copy of a model is with loading it, as :meth:`ModelLoads.note`."""
        self._loads.note(model_id, replica, seconds, is_over=is_over)

    async def model_conditions(self, fingerprints: Mapping[str, str]) -> dict[str, ModelCondition]:
        """Return the condition of each model of a catalog, by its entries' fingerprints."""
        return self._models.of(fingerprints)

    async def choose_model(self, client: str, model_id: str) -> None:
        """Remember which model a client wants where its requests name none."""
        self._choices.choose(client, model_id)

    async def chosen_model(self, client: str) -> str | None:
        """Return the model that a client chose last; None where nothing is known."""
        return self._choices.of(client)

    async def spend_request(self, who: str, per_minute: int) -> RateWindow:
        """Count a request, as :meth:`RateWindows.spend`, in memory."""
        return await self._windows.spend(who, per_minute)

    async def set_log_level(self, level: LogLevel) -> None:
        """Log from this level on, until the tracker's process is started again."""
        set_log_level(level)

    async def _write_reports(self, reporters: Sequence[Sequence[ProgressReport]]) -> list[set[str]]:
        return await (await self._store()).claims.report(reporters, self._lease)

    async def _write_completions(self, completions: Sequence[Completion]) -> list[bool]:
        return await (await self._store()).attempts.complete(completions)

    def _load_of(self, job: Job) -> ModelLoad | None:
        """The load that a job waits for."""
        waits = job.state is JobState.PROCESSING and job.phase is JobPhase.LOADING_MODEL
        return self._loads.of(job.request.model_id) if waits else None

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
        note_queue(await self.counts.by_state(), self._settings.queue.limit)

    async def _reap_forever(self) -> None:
        pause = self._settings.queue.lease_seconds / 3
        await asyncio.sleep(pause)
        await repeat_forever(self.reap, pause, logger, "Reaping failed")
