"""The job tracker: the named actor through which a cluster speaks with its job store."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypedDict, TypeVar

from deployments.jobs.counts import DetailedCounts, QueueCounts
from deployments.jobs.exceptions import StoreUnavailableError
from deployments.jobs.images import GalleryPage
from deployments.jobs.records import Claim, Image, Job, JobRequest, NewImage, ProgressReport
from deployments.jobs.store import Clock, JobStore, utc_now
from deployments.jobs.wakeups import Wakeups
from deployments.model_state import ModelCondition, ModelConditions
from deployments.previews import Previews
from deployments.version import package_version

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

PREVIEWED_JOBS = 1000

_QUEUE = "queue"  # the topic of what may be claimable; the others are "job/<id>"


class TrackerSettings(TypedDict):
    """What a tracker is built with; a tracker with other settings is another tracker."""

    database_url: str
    queue_limit: int
    max_attempts: int
    lease_seconds: float


def fingerprint(settings: TrackerSettings) -> str:
    """Return a digest of the package's version and the settings."""
    told = [package_version(), {**settings, "lease_seconds": float(settings["lease_seconds"])}]  # 60 is 60.0
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def job_version(job: Job) -> str:
    """Return what :meth:`JobTracker.watch` compares: equal as long as there is no news of a job."""
    return f"{job.state}/{job.phase or ''}/{job.attempts}/{job.step}/{int(job.cancel_requested)}"


def _topic(job_id: str) -> str:
    return f"job/{job_id}"


class JobTracker:
    """The job store behind an actor, with long polls and a reaper.

    The store is opened by the first call that needs it, so that the actor is up even where its database is not. Every
    method may be repeated; each raises what the method of :class:`JobStore` with its name raises.

    Args:
        database_url: An SQLAlchemy URL with an async driver.
        queue_limit: Pending jobs of all models above which submits are refused.
        max_attempts: Claims of a job after which it fails instead of being put back.
        lease_seconds: How long a claim holds without a report.
        clock: Gives the time as an aware datetime; None for the database's own clock.
    """

    def __init__(
        self,
        *,
        database_url: str,
        queue_limit: int = 1000,
        max_attempts: int = 3,
        lease_seconds: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        self._settings = TrackerSettings(
            database_url=database_url,
            queue_limit=queue_limit,
            max_attempts=max_attempts,
            lease_seconds=lease_seconds,
        )
        self._lease = timedelta(seconds=lease_seconds)
        self._clock = clock
        self._opening = asyncio.Lock()
        self._opened: JobStore | None = None
        self._reaper: asyncio.Task[None] | None = None
        self._wakeups = Wakeups()
        self._models = ModelConditions(clock or utc_now)
        self._previews = Previews(PREVIEWED_JOBS)

    async def _store(self) -> JobStore:
        async with self._opening:
            if self._opened is None:
                self._opened = await JobStore.open(self._settings["database_url"], self._clock)
                self._reaper = asyncio.create_task(self._reap_forever())
            return self._opened

    async def close(self) -> None:
        """Stop the reaper and close the store."""
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.wait([self._reaper])
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

    async def announce_model(self, model_id: str, fingerprint: str, load_failure: str) -> None:
        """Note what a copy of a model says of itself, as :meth:`ModelConditions.note`; kept in memory only."""
        self._models.note(model_id, fingerprint, load_failure)

    async def model_conditions(self, fingerprints: Mapping[str, str]) -> dict[str, ModelCondition]:
        """Return the condition of each model of a catalog, by its entries' fingerprints."""
        return self._models.of(fingerprints)

    async def submit(self, job_id: str, request: JobRequest) -> Job:
        """Put a job into the queue, or return the one that already has this id."""
        job = await (await self._store()).submit(job_id, request, self._settings["queue_limit"])
        self._wakeups.wake(_QUEUE)
        return job

    async def get(self, job_id: str) -> Job:
        """Return a job."""
        return await (await self._store()).get(job_id)

    async def watch(self, job_id: str, seen_version: str | None, wait_seconds: float) -> Job:
        """Return a job as soon as its :func:`job_version` is not ``seen_version``, or after ``wait_seconds``."""
        store = await self._store()

        async def look() -> Job:
            return await store.get(job_id)

        return await self._poll(_topic(job_id), look, lambda job: job_version(job) != seen_version, wait_seconds)

    async def queue_position(self, job_id: str) -> int | None:
        """Return how many claims of its model it takes to reach a job; None unless it is pending."""
        return await (await self._store()).queue_position(job_id)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a pending job, ask for the end of a processing one, leave one that has ended."""
        job = await (await self._store()).cancel(job_id)
        self._wakeups.wake(_topic(job_id))
        return job

    async def claim(
        self, capacity: Mapping[str, int], holder: str, claim_id: str, wait_seconds: float = 0.0
    ) -> list[Claim]:
        """Claim as :meth:`JobStore.claim`, waiting up to ``wait_seconds`` for something to claim."""
        store = await self._store()

        async def look() -> list[Claim]:
            return await store.claim(capacity, holder, claim_id, self._lease)

        claims = await self._poll(_QUEUE, look, bool, wait_seconds)
        for claim in claims:
            self._wakeups.wake(_topic(claim.job_id))
        return claims

    async def report(self, reports: Sequence[ProgressReport]) -> set[str]:
        """Note where jobs stand, renew their leases, and return the ids of those that the reporter must stop."""
        stop = await (await self._store()).report(reports, self._lease)
        for report in reports:
            if report.preview is not None and report.job_id not in stop:
                self._previews.keep(report.job_id, report.preview)
            self._wakeups.wake(_topic(report.job_id))
        return stop

    async def complete(self, job_id: str, fence: int, images: Sequence[NewImage]) -> bool:
        """End a job with its images; False where this attempt may not, being stale or cancelled."""
        completed = await (await self._store()).complete(job_id, fence, images)
        self._wakeups.wake(_topic(job_id))
        return completed

    async def fail(self, job_id: str, fence: int, message: str, *, retryable: bool) -> bool:
        """End an attempt that failed; False if it is stale or had completed the job."""
        store = await self._store()
        ended = await store.fail(
            job_id, fence, message, retryable=retryable, max_attempts=self._settings["max_attempts"]
        )
        self._attempt_ended(job_id)
        return ended

    async def release(self, job_id: str, fence: int, reason: str) -> bool:
        """End an attempt for a reason that is not the job's fault; False if it is stale or had completed the job."""
        ended = await (await self._store()).release(job_id, fence, reason, self._settings["max_attempts"])
        self._attempt_ended(job_id)
        return ended

    async def confirm_cancel(self, job_id: str, fence: int) -> bool:
        """Cancel a processing job whose cancellation was requested, now that its attempt has stopped."""
        cancelled = await (await self._store()).confirm_cancel(job_id, fence)
        self._wakeups.wake(_topic(job_id))
        return cancelled

    async def reap(self) -> list[str]:
        """Release every job whose lease has lapsed, and return their ids; a task of the tracker does it regularly."""
        reaped = await (await self._store()).reap(self._settings["max_attempts"])
        for job_id in reaped:
            logger.warning("The lease of job %s had lapsed", job_id)
            self._attempt_ended(job_id)
        return reaped

    async def has_preview(self, job_id: str) -> bool:
        """Return whether :meth:`preview` has something to show."""
        return self._previews.get(job_id) is not None

    async def preview(self, job_id: str) -> bytes | None:
        """Return what a job's image looks like so far, as a small WebP; None where that is not known."""
        return self._previews.get(job_id)

    async def images_of(self, job_id: str) -> list[Image]:
        """Return a job's images by their index."""
        return await (await self._store()).images_of(job_id)

    async def get_image(self, image_id: str) -> Image:
        """Return an image."""
        return await (await self._store()).get_image(image_id)

    async def delete_image(self, image_id: str) -> Image:
        """Forget an image; the caller removes its bytes."""
        return await (await self._store()).delete_image(image_id)

    async def list_images(
        self, page: int = 1, limit: int = 20, search: str = "", model_id: str | None = None
    ) -> GalleryPage:
        """Return a page of the gallery, newest first."""
        return await (await self._store()).list_images(page, limit, search, model_id)

    async def counts(self) -> QueueCounts:
        """Count the jobs in each state, of all models and of each."""
        return await (await self._store()).counts()

    async def detailed_counts(self) -> DetailedCounts:
        """As :meth:`counts`, with how the jobs fared."""
        return await (await self._store()).detailed_counts()

    def _attempt_ended(self, job_id: str) -> None:
        self._wakeups.wake(_topic(job_id))
        self._wakeups.wake(_QUEUE)

    async def _poll(
        self, topic: str, look: Callable[[], Awaitable[Found]], is_news: Callable[[Found], bool], wait_seconds: float
    ) -> Found:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        with self._wakeups.waiting_for(topic) as news:
            while True:
                news.clear()
                found = await look()
                left = deadline - loop.time()
                if is_news(found) or left <= 0:
                    return found
                # After a timeout too it looks once more: another tracker may have changed the store meanwhile.
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await news.wait()

    async def _reap_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings["lease_seconds"] / 3)
            try:
                await self.reap()
            except Exception:
                logger.exception("Reaping failed; it will be tried again")
