"""The job store: every fact about jobs and images that must outlive a process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import false, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.database import Database
from deployments.jobs.database.rows import find_job, job_of
from deployments.jobs.database.schema import upgrade
from deployments.jobs.database.tables import jobs
from deployments.jobs.images.images import Images
from deployments.jobs.images.inputs import Inputs
from deployments.jobs.images.store_gallery import StoreGallery
from deployments.jobs.keys import StoreKeys
from deployments.jobs.queue.attempts import Attempts, Completion
from deployments.jobs.queue.claims import Claims, Lease
from deployments.jobs.queue.counts import DetailedCounts, QueueCounts, count_by_state, count_in_detail
from deployments.jobs.queue.deadlines import Deadline, Deadlines, next_deadline
from deployments.jobs.queue.limits import QueueLimits
from deployments.jobs.queue.listing import JobFilter, JobPage, job_page
from deployments.jobs.queue.store_administration import StoreAdministration
from deployments.jobs.queue.store_deliveries import StoreDeliveries
from deployments.jobs.queue.submits import Queue, known, queue_position
from deployments.jobs.queue.views import Sight, jobs_of_clients, look_at
from deployments.jobs.records.exceptions import JobError
from deployments.jobs.records.jobs import (
    Claim,
    Image,
    Input,
    Job,
    JobRequest,
    NewImage,
    NewInput,
    Picture,
    PriorityClass,
    ProgressReport,
)
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.backoff import NO_PAUSES, Backoff
from deployments.jobs.transaction.change import Change
from deployments.jobs.transaction.ledger import Ledger, Moves

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

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        backoff: Backoff = NO_PAUSES,
        on_moves: Callable[[Moves], None] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._backoff = backoff
        self._on_moves = on_moves
        self.administration = StoreAdministration(database, self._change, self._now)
        self.deliveries = StoreDeliveries(database, self._change, self._now)
        self.gallery = StoreGallery(database, self._change, self._now)
        self.keys = StoreKeys(database, self._change, self._now)

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Clock | None = None,
        backoff: Backoff = NO_PAUSES,
        on_moves: Callable[[Moves], None] | None = None,
    ) -> JobStore:
        """Open the database, upgraded to the newest schema.

        Args:
            url: An SQLAlchemy URL with an async driver.
            clock: Gives the time as an aware datetime; None for the database's own clock, by which leases hold whatever
                the clocks of hosts say.
            backoff: How long a job pauses between attempts.
            on_moves: Called after each transaction that moved jobs, or let more of them be claimed.

        Raises:
            StoreUnavailableError: It is missing, read-only, damaged, too old, or of a newer version of CyberImage.
        """
        database = Database(url)
        store = cls(database, clock, backoff, on_moves)
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

    async def submit(self, job_id: str, request: JobRequest, limits: QueueLimits) -> Job:
        """Put a job into the queue, or return the one that already has this id; raises as :meth:`submit_all`."""
        (job,) = await self.submit_all({job_id: request}, limits)
        return job

    async def submit_all(self, wanted: Mapping[str, JobRequest], limits: QueueLimits) -> list[Job]:
        """Put jobs into the queue, by their ids: all or none; where some of the ids are taken, return their jobs.

        Submits at once on a server do not see each other's jobs, and may go over a limit by as many.

        Raises:
            QueueFullError: There is no room for all of them in the queue, or in that of a model.
            ClientQueueFullError: Too many jobs of the client wait.
        """
        return await self._change(lambda change: Queue(change).submit(wanted, limits))

    async def submit_each(self, submits: Sequence[tuple[str, JobRequest]], limits: QueueLimits) -> list[Job | JobError]:
        """As :meth:`submit` of each; in place of a job that is refused, the error says why."""
        return await self._change(lambda change: Queue(change).submit_each(submits, limits))

    async def retry(self, job_id: str, new_id: str, limits: QueueLimits, who: str) -> Job:
        """Submit what a failed or cancelled job asked for once more, as a new job with this id that names the old one.

        Raises:
            UnknownJobError: There is none with this id.
            JobStateError: It has not failed and was not cancelled.
            QueueFullError: As :meth:`submit_all`.
        """
        return await self._change(lambda change: Queue(change).retry(job_id, new_id, limits, who))

    async def reprioritize(self, job_id: str, priority: PriorityClass, who: str) -> Job:
        """Give a pending job another class, in which it waits behind its client's other jobs.

        Raises:
            UnknownJobError: There is none with this id.
            JobStateError: It is not pending.
        """
        return await self._change(lambda change: Queue(change).reprioritize(job_id, priority, who))

    async def list_jobs(self, wanted: JobFilter, limit: int = 50, cursor: str | None = None) -> JobPage:
        """Return jobs, newest first: up to ``limit`` behind the cursor of an earlier page.

        Raises:
            InvalidCursorError: The cursor is not one of these lists.
        """
        return await self._database.read(lambda connection: job_page(connection, wanted, limit, cursor))

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

    async def delete_image(self, image_id: str, who: str = "") -> Image:
        """Forget an image; the caller removes its bytes, which the returned record names.

        Raises:
            UnknownImageError: There is none with this id, any more or at all.
        """

        async def work(change: Change) -> Image:
            image = await Images(change.connection).get(image_id)
            await Images(change.connection).delete([image_id])
            job = await find_job(change.connection, image.job_id)
            await Audit(change, who).note(Action.DELETE_IMAGE, job, image_id=image_id)
            return image

        return await self._change(work)

    async def queue_position(self, job_id: str) -> int | None:
        """Return how many claims of its model it takes to reach a job (1: it is next); None if it does not wait.

        A job that pauses between attempts has none.

        Raises:
            UnknownJobError: There is none with this id.
        """
        return await self._database.read(lambda connection: queue_position(connection, job_id))

    async def claim(self, capacity: Mapping[str, int], holder: str, claim_id: str, lease: timedelta) -> list[Claim]:
        """Take pending jobs: of each model by priority class, then round robin among clients, each one's oldest first.

        Jobs of paused models, jobs that pause between attempts and jobs that have expired are not taken.

        Args:
            capacity: How many jobs of each model id may be taken.
            holder: Who takes them; for messages and logs.
            claim_id: Names this call. Repeated, it returns those of its jobs that are still its own, and no others.
            lease: How long the jobs are kept for the holder unless reports renew it.
        """
        return await self._change(
            lambda change: Claims(change).claim(capacity, Lease(holder, claim_id, change.now + lease))
        )

    async def report(self, reports: Sequence[ProgressReport], lease: timedelta) -> set[str]:
        """Note where jobs stand and renew their leases to ``lease`` from now.

        Returns:
            Ids of the jobs that the reporter must stop: another attempt has them, they have ended, they are unknown,
            or their cancellation was requested (see :meth:`confirm_cancel`). Nothing was noted of these.
        """
        (stop,) = await self.report_each([reports], lease)
        return stop

    async def report_each(self, reporters: Sequence[Sequence[ProgressReport]], lease: timedelta) -> list[set[str]]:
        """As :meth:`report` of each reporter's."""
        return await self._change(lambda change: Claims(change).report(reporters, change.now + lease))

    async def complete(self, job_id: str, fence: int, images: Sequence[NewImage]) -> bool:
        """End a job with its images.

        Returns:
            True if the attempt with this fence completed the job, now or before. False if it is stale, or if the job's
            cancellation was requested, which makes it cancelled. Then the bytes are of no use, but look at the job
            before removing them: another attempt writes its images under the same keys.
        """
        (completed,) = await self.complete_each([Completion(job_id, fence, images)])
        return completed

    async def complete_each(self, completions: Sequence[Completion]) -> list[bool]:
        """As :meth:`complete` of each."""
        return await self._change(lambda change: Attempts(change).complete(completions))

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

    async def excuse(self, job_id: str, fence: int, reason: str) -> bool:
        """As :meth:`release`, where somebody's wish ended the attempt: it does not count as tried, without a pause."""
        return await self._change(lambda change: Attempts(change).excuse(job_id, fence, reason))

    async def reap(self, max_attempts: int) -> list[str]:
        """Release every job whose lease has lapsed, and return their ids."""
        return await self._change(lambda change: Attempts(change).reap(max_attempts))

    async def shorten_leases(self, longest: timedelta) -> None:
        """Let no lease last longer than ``longest`` from now: after a clock was set back, some would."""
        await self._change(lambda change: Attempts(change).shorten_leases(longest))

    async def release_all(self, reason: str) -> list[str]:
        """Put every job that runs back into its queue, at once, and return their ids.

        Whoever calls this knows that nobody runs jobs any more. The attempts do not count as tried: they were ended by
        somebody's wish, not by what they did.
        """
        return await self._change(lambda change: Attempts(change).release_all(reason))

    async def settle(self) -> None:
        """Put jobs whose pause is over back into their lanes, and end those that have expired; some at a time."""
        await self._change(lambda change: Deadlines(change).settle())

    async def next_deadline(self) -> Deadline | None:
        """Return when :meth:`settle` has something to do; None where nothing is due ever."""

        async def work(connection: AsyncConnection) -> Deadline | None:
            return await next_deadline(connection, await self._now(connection))

        return await self._database.read(work)

    async def cancel(self, job_id: str, who: str = "") -> Job:
        """Cancel a pending job, ask for the end of a processing one, leave one that has ended.

        Raises:
            UnknownJobError: There is none with this id.
        """
        return await self._change(lambda change: Queue(change).cancel(job_id, who))

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

    async def get_many(self, job_ids: Sequence[str]) -> Sight:
        """Return those of some jobs that there are, with their images, positions and webhooks.

        Of many pending jobs only the first ones are told their positions.
        """
        return await self._database.read(lambda connection: look_at(connection, job_ids))

    async def jobs_of_clients(self, ended_since: Mapping[str, datetime]) -> list[str]:
        """Return ids of clients' jobs that are open, or ended at or after a time: of each client the newest 1000.

        Args:
            ended_since: The time for each client.
        """
        return await self._database.read(lambda connection: jobs_of_clients(connection, ended_since))

    async def add_input(self, new: NewInput) -> Input:
        """Keep the record of a picture that a client sent, or return the one that already has its id."""
        return await self._change(lambda change: Inputs(change.connection).add(new, change.now))

    async def find_input(self, input_id: str) -> Input | None:
        """Return a picture that a client sent; None where there is none with this id."""
        return await self._database.read(lambda connection: Inputs(connection).find(input_id))

    async def get_picture(self, picture_id: str) -> Picture:
        """Return a picture that a job may start from: an input, or an image that was made here.

        Raises:
            UnknownPictureError: There is none with this id.
        """
        return await self._database.read(lambda connection: Inputs(connection).picture(picture_id))

    async def _change(self, work: Callable[[Change], Awaitable[Result]]) -> Result:
        async def once(connection: AsyncConnection) -> tuple[Result, Moves]:
            change = Change(connection, await self._now(connection), Ledger(connection), self._backoff)
            result = await work(change)
            await change.ledger.book()
            return result, change.ledger.moves

        result, moves = await self._database.write(once)
        if self._on_moves is not None and moves:
            self._on_moves(moves)
        return result

    async def _now(self, connection: AsyncConnection) -> datetime:
        return await self._database.now(connection) if self._clock is None else self._clock()
