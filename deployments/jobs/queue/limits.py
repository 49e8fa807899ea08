"""How many jobs may wait, and how long it takes until there is room again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import RowMapping, select

from deployments.jobs.database.tables import HAS_ENDED, jobs
from deployments.jobs.images.holdings import Holdings
from deployments.jobs.queue.counts import Counts
from deployments.jobs.queue.daily_images import spend_images
from deployments.jobs.records.api_keys import NO_LIMITS, KeyLimits
from deployments.jobs.records.exceptions import ClientQueueFullError, QueueFullError, QuotaError
from deployments.jobs.records.jobs import JobRequest
from deployments.jobs.transaction.transaction import Transaction

MEASURED_TIME = timedelta(minutes=10)
MEASURED_JOBS = 200
UNMEASURED_SECONDS = 10
SHORTEST_SECONDS, LONGEST_SECONDS = 1, 600


@dataclass(frozen=True)
class QueueLimits:
    """Pending jobs above which new ones are refused; None for no limit.

    Attributes:
        total: Of all models and clients.
        per_model: Of each model.
        per_client: Of each client, at all models; those that pause between attempts do not count.
        key: Of the API key that submits; its ``queued_jobs`` takes the place of ``per_client``.
        owner_images: Images that a client may have; those of jobs under way do not count.
        owner_bytes: Bytes of a client's images above which its jobs are refused.
    """

    total: int
    per_model: int | None = None
    per_client: int | None = None
    key: KeyLimits = NO_LIMITS
    owner_images: int | None = None
    owner_bytes: int | None = None


@dataclass(frozen=True)
class Admission:
    """Decides whether jobs may enter the queue, within one transaction."""

    transaction: Transaction
    limits: QueueLimits

    async def check(self, wanted: Sequence[JobRequest]) -> None:
        """Raise the error of the first limit that is reached, :class:`QueueFullError` or another."""
        counts, limits = Counts(self.transaction), self.limits
        excess = await counts.pending() + len(wanted) - limits.total
        if excess > 0:
            retry = await self._seconds_until(excess, lambda _: True)
            raise QueueFullError(_full("The queue is full", limits.total), retry_after_seconds=retry)
        for client, count in Counter(request.client for request in wanted).items():
            await self._check_client(client, count, limits.key.queued_jobs or limits.per_client)
            await self._check_concurrent(client, count, limits.key.concurrent_jobs)
        if limits.per_model is not None:
            for model_id, count in Counter(request.model_id for request in wanted).items():
                await self._check_model(model_id, count, limits.per_model)
        images: Counter[str] = Counter()
        for request in wanted:
            images[request.client] += request.settings.num_images
        for client, count in images.items():
            await self._check_quota(client, count)
            if limits.key.images_per_day is not None:
                await spend_images(self.transaction, client, count, limits.key.images_per_day)

    async def _check_client(self, client: str, count: int, limit: int | None) -> None:
        if limit is None:
            return
        excess = await Counts(self.transaction).pending_of_client(client) + count - limit
        if excess > 0:
            retry = await self._seconds_until(excess, lambda job: job["client"] == client)
            raise ClientQueueFullError(_full("You have too many jobs waiting", limit), retry_after_seconds=retry)

    async def _check_concurrent(self, client: str, count: int, limit: int | None) -> None:
        if limit is None:
            return
        excess = await Counts(self.transaction).open_of_client(client) + count - limit
        if excess > 0:
            retry = await self._seconds_until(excess, lambda job: job["client"] == client)
            sentence = f"You have too many jobs under way ({limit} may wait or run at once); try again later."
            raise ClientQueueFullError(sentence, retry_after_seconds=retry)

    async def _check_model(self, model_id: str, count: int, limit: int) -> None:
        excess = await Counts(self.transaction).pending(model_id) + count - limit
        if excess > 0:
            retry = await self._seconds_until(excess, lambda job: job["model_id"] == model_id)
            raise QueueFullError(_full(f"The queue of {model_id} is full", limit), retry_after_seconds=retry)

    async def _check_quota(self, client: str, count: int) -> None:
        most_images, most_bytes = self.limits.owner_images, self.limits.owner_bytes
        if most_images is not None:
            left = max(0, most_images - await Holdings(self.transaction).image_count(client))
            if count > left:
                raise QuotaError(
                    f"You may keep {most_images} images, and there is room for {left} more of them; "
                    "delete some, or ask for fewer."
                )
        if most_bytes is not None and await Holdings(self.transaction).byte_count(client) >= most_bytes:
            raise QuotaError(f"Your images have reached the {most_bytes} bytes that you may keep; delete some first.")

    async def _seconds_until(self, excess: int, counts: Callable[[RowMapping], bool]) -> int:
        """How long it takes for ``excess`` jobs to leave, at the rate at which such jobs ended lately."""
        found = await self.transaction.connection.execute(
            select(jobs.c.model_id, jobs.c.client, jobs.c.started_at, jobs.c.completed_at)
            .where(HAS_ENDED, jobs.c.completed_at > self.transaction.now - MEASURED_TIME)
            .order_by(jobs.c.completed_at.desc())
            .limit(MEASURED_JOBS)
        )
        ended = found.mappings().all()
        # One that never ran says nothing of how fast jobs run.
        done = sum(job["started_at"] is not None and counts(job) for job in ended)
        if not done:
            return UNMEASURED_SECONDS
        seconds: float = (self.transaction.now - ended[-1]["completed_at"]).total_seconds()
        return max(SHORTEST_SECONDS, min(LONGEST_SECONDS, math.ceil(excess * seconds / done)))


def _full(what: str, limit: int) -> str:
    return f"{what} ({limit} may wait); try again later."
