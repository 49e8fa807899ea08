"""The job store: every fact about jobs and images that must outlive a process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import false, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.attempts import Attempts
from deployments.jobs.change import Change
from deployments.jobs.claims import Claims, Lease
from deployments.jobs.counts import DetailedCounts, QueueCounts, count_by_state, count_in_detail
from deployments.jobs.database import Database
from deployments.jobs.images import GalleryPage, Images
from deployments.jobs.ledger import Ledger
from deployments.jobs.queue import Queue, known, queue_position
from deployments.jobs.records import Claim, Image, Job, JobRequest, NewImage, ProgressReport
from deployments.jobs.rows import find_job, job_of
from deployments.jobs.schema import upgrade
from deployments.jobs.tables import jobs

Clock = Callable[[], datetime]
Result = TypeVar("Result")


def utc_now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)


class JobStore:
    """Jobs and images in a database.

    Every method is one transaction, and may be repeated by a caller that does not know whether it was carried out.
    Each of them raises :class:`StoreUnavailableError` when the database does not answer.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    async def open(cls, url: str, clock: Clock | None = None) -> JobStore:
        """Open the database, upgraded to the newest schema.

        Args:
            url: An SQLAlchemy URL with an async driver.
            clock: Gives the time as an aware datetime; None for the database's own clock, by which leases hold whatever
                the clocks of hosts say.

        Raises:
            StoreUnavailableError: It is missing, read-only, damaged, too old, or of a newer version of CyberImage.
        """
        database = Database(url)
        store = cls(database, clock)
        try:
            await upgrade(database)
            await store.check()
        except BaseException:
            await database.close()
            raise
        return store

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def check(self) -> None:
        """Raise :class:`StoreUnavailableError` unless the database answers and may be written."""

        async def work(connection: AsyncConnection) -> None:
            # Changes nothing, but is refused where writing is: SQLite begins a "write" transaction on anything.
            await connection.execute(update(jobs).where(false()).values(turn=0))

        await self._database.write(work)

    async def submit(self, job_id: str, request: JobRequest, queue_limit: int) -> Job:
        """Put a job into the queue, or return the one that already has this id.

        Submits at once on a server do not see each other's jobs, and may go over the limit by as many.

        Raises:
            QueueFullError: ``queue_limit`` jobs of all models are pending.
        """
        return await self._change(lambda change: Queue(change).submit(job_id, request, queue_limit))

    async def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJobError: There is none with this id.
        """

        async def work(connection: AsyncConnection) -> Job:
            return job_of(known(await find_job(connection, job_id), job_id))

        return await self._database.read(work)

    async def images_of(self, job_id: str) -> list[Image]:
        """Return a job's images by their index; none of an unknown job."""
        return await self._database.read(lambda connection: Images(connection).of_job(job_id))

    async def get_image(self, image_id: str) -> Image:
        """Return an image.

        Raises:
            UnknownImageError: There is none with this id.
        """
        return await self._database.read(lambda connection: Images(connection).get(image_id))

    async def delete_image(self, image_id: str) -> Image:
        """Forget an image; the caller removes its bytes, which the returned record names.

        Raises:
            UnknownImageError: There is none with this id, any more or at all.
        """
        return await self._database.write(lambda connection: Images(connection).delete(image_id))

    async def queue_position(self, job_id: str) -> int | None:
        """Return how many claims of its model it takes to reach a job (1: it is next); None unless it is pending.

        Raises:
            UnknownJobError: There is none with this id.
        """
        return await self._database.read(lambda connection: queue_position(connection, job_id))

    async def claim(self, capacity: Mapping[str, int], holder: str, claim_id: str, lease: timedelta) -> list[Claim]:
        """Take pending jobs: of each model round robin among clients, each client's oldest first.

        Args:
            capacity: How many jobs of each model id may be taken.
            holder: Who takes them; for messages and logs.
            claim_id: Names this call. Repeated, it returns those of its jobs that are still its own, and no others.
            lease: How long the jobs are kept for the holder unless reports renew it.
        """
        return await self._change(
            lambda change: Claims(change).claim(capacity, Lease(holder, claim_id, change.now + lease))
        )

    async def report(self, reports: Iterable[ProgressReport], lease: timedelta) -> set[str]:
        """Note where jobs stand and renew their leases to ``lease`` from now.

        Returns:
            Ids of the jobs that the reporter must stop: another attempt has them, they have ended, they are unknown,
            or their cancellation was requested (see :meth:`confirm_cancel`). Nothing was noted of these.
        """
        return await self._change(lambda change: Claims(change).report(reports, change.now + lease))

    async def complete(self, job_id: str, fence: int, images: Sequence[NewImage]) -> bool:
        """End a job with its images.

        Returns:
            True if the attempt with this fence completed the job, now or before. False if it is stale, or if the job's
            cancellation was requested, which makes it cancelled. Then the bytes are of no use, but look at the job
            before removing them: another attempt writes its images under the same keys.
        """
        return await self._change(lambda change: Attempts(change).complete(job_id, fence, images))

    async def fail(self, job_id: str, fence: int, message: str, *, retryable: bool, max_attempts: int) -> bool:
        """End an attempt that failed: for good, or if ``retryable`` and attempts are left, back into the queue.

        Returns:
            True if the attempt with this fence is over; False if it is stale or had completed the job.
        """
        attempts = max_attempts if retryable else None
        return await self._change(lambda change: Attempts(change).fail(job_id, fence, message, attempts))

    async def release(self, job_id: str, fence: int, reason: str, max_attempts: int) -> bool:
        """End an attempt for a reason that is not the job's fault: as a retryable :meth:`fail`."""
        return await self._change(lambda change: Attempts(change).fail(job_id, fence, reason, max_attempts))

    async def reap(self, max_attempts: int) -> list[str]:
        """Release every job whose lease has lapsed, and return their ids."""
        return await self._change(lambda change: Attempts(change).reap(max_attempts))

    async def cancel(self, job_id: str) -> Job:
        """Cancel a pending job, ask for the end of a processing one, leave one that has ended.

        Raises:
            UnknownJobError: There is none with this id.
        """
        return await self._change(lambda change: Queue(change).cancel(job_id))

    async def confirm_cancel(self, job_id: str, fence: int) -> bool:
        """Cancel a processing job whose cancellation was requested, now that its attempt has stopped.

        Returns:
            True if the job is cancelled; False if this attempt is stale or nobody asked for it.
        """
        return await self._change(lambda change: Attempts(change).confirm_cancel(job_id, fence))

    async def counts(self) -> QueueCounts:
        """Count the jobs in each state, of all models and of each."""
        return await self._database.read(count_by_state)

    async def detailed_counts(self) -> DetailedCounts:
        """As :meth:`counts`, with how the jobs fared."""

        async def work(connection: AsyncConnection) -> DetailedCounts:
            return await count_in_detail(connection, await self._now(connection))

        return await self._database.read(work)

    async def list_images(
        self, page: int = 1, limit: int = 20, search: str = "", model_id: str | None = None
    ) -> GalleryPage:
        """Return a page of the gallery, newest first.

        Args:
            page: From 1.
            limit: Images on a page.
            search: Words; each must occur in the prompt or the model id, in whatever case.
            model_id: Only images of this model.
        """
        return await self._database.read(lambda connection: Images(connection).page(page, limit, search, model_id))

    async def _change(self, work: Callable[[Change], Awaitable[Result]]) -> Result:
        async def once(connection: AsyncConnection) -> Result:
            change = Change(connection, await self._now(connection), Ledger(connection))
            result = await work(change)
            await change.ledger.book()
            return result

        return await self._database.write(once)

    async def _now(self, connection: AsyncConnection) -> datetime:
        return await self._database.now(connection) if self._clock is None else self._clock()
