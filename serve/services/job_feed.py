"""News of jobs for all who watch them in this process, by one subscription at the job tracker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cachetools import FIFOCache

from deployments.jobs.queue.views import JobView
from deployments.jobs.records.exceptions import UnknownJobError
from deployments.jobs.records.jobs import JobState
from deployments.telemetry.logs import about_nobody
from deployments.tracker.job_tracker import JobTracker

logger = logging.getLogger(__name__)

MOST_UNREAD_JOBS = 1000
MOST_POSITIONS = 10_000
# How far the clocks and the commits of several trackers may lie apart.
OVERLAP = timedelta(seconds=10)


class UnreadJobsError(Exception):
    """More jobs changed than are kept for one who does not read; watch again."""


@dataclass(frozen=True)
class Rhythm:
    """When the feed does what; all in seconds.

    Attributes:
        wait: The longest wait in one call of the tracker.
        refresh: After which all watched jobs are looked at again, changed or not.
        rest: After a change, so that those which follow closely are told as one.
        pause: After a call that failed.
        heartbeat: Between two comments to a client who watches, which keep its connection.
    """

    wait: float = 20.0
    refresh: float = 4.0
    rest: float = 0.1
    pause: float = 1.0
    heartbeat: float = 15.0


class Watcher:
    """What one who watches has not read yet: of each job the newest view, and nothing older.

    Args:
        is_patient: Whether the watcher waits for as long as the tracker is away, from the first look on.
    """

    def __init__(self, *, is_patient: bool) -> None:
        self.is_patient = is_patient
        self._unread: dict[str, JobView] = {}
        self._news = asyncio.Event()
        self._failure: Exception | None = None
        self.has_seen_any = False

    async def next(self) -> list[JobView]:
        """Wait for a look at the jobs, and return the newest view of each that was looked at since the last call.

        Raises:
            UnknownJobError: A job that is watched is not there, any more or at all.
            UnreadJobsError: Too many jobs changed meanwhile.
            JobError: The very first look failed, and this one is not patient.
        """
        await self._news.wait()
        self._news.clear()
        if self._failure is not None:
            raise self._failure
        views, self._unread = self._unread, {}
        return list(views.values())

    def offer(self, view: JobView) -> None:
        """Keep a view, in the place of an older one of the same job."""
        self.has_seen_any = True
        self._unread[view.job.id] = view
        self._news.set()
        if len(self._unread) > MOST_UNREAD_JOBS:
            self.fail(UnreadJobsError())

    def fail(self, error: Exception) -> None:
        """Have :meth:`next` raise an error."""
        self._failure = error
        self._unread = {}
        self._news.set()


class JobFeed:
    """Follows the jobs that are watched in this process.

    One long poll at the tracker tells which jobs changed, and one call looks at those that somebody watches, however
    many do. All of them are looked at again after a gap in the changes and every few seconds, as a job may have been
    changed through another tracker. Nothing is asked while nobody watches.

    Args:
        tracker: The job tracker.
        rhythm: When to do what.
    """

    def __init__(self, tracker: JobTracker, rhythm: Rhythm) -> None:
        self._tracker = tracker
        self.rhythm = rhythm
        self._of_jobs: dict[str, set[Watcher]] = {}
        self._of_clients: dict[str, set[Watcher]] = {}
        self._ended_since: dict[str, datetime] = {}
        self._stale_jobs: dict[str, None] = {}
        self._stale_clients: dict[str, None] = {}
        self._any_stale = asyncio.Event()
        # Of pending jobs, the one whose position was told longest ago first.
        self._positions: FIFOCache[str, JobView] = FIFOCache(MOST_POSITIONS)
        self._tasks: list[asyncio.Task[None]] = []

    @contextmanager
    def watch_job(self, job_id: str) -> Iterator[Watcher]:
        """Watch one job: its view of now is the first news."""
        with self._watching(self._of_jobs, job_id) as watcher:
            yield watcher

    @contextmanager
    def watch_client(self, client: str, ended_since: datetime) -> Iterator[Watcher]:
        """Watch all jobs of a client; those that are open, or ended at ``ended_since`` or later, are the first news."""
        self._ended_since[client] = min(ended_since, self._ended_since.get(client, ended_since))
        try:
            with self._watching(self._of_clients, client) as watcher:
                yield watcher
        finally:
            if client not in self._of_clients:
                del self._ended_since[client]

    async def view(self, job_id: str) -> JobView:
        """Return a job as it is now.

        Raises:
            UnknownJobError: There is none with this id.
            JobError: The tracker does not answer.
        """
        with self._watching(self._of_jobs, job_id, is_patient=False) as watcher:
            return (await watcher.next())[0]

    async def changed_view(self, job_id: str, seen: Collection[str], wait_seconds: float) -> JobView:
        """Return a job once its version is not a seen one, it has ended, or the time is over.

        Args:
            job_id: The job.
            seen: Values of :attr:`Job.version`; where empty, the one that it has now.
            wait_seconds: The longest wait.

        Raises:
            UnknownJobError: There is none with this id.
            JobError: The tracker does not answer.
        """
        with self._watching(self._of_jobs, job_id, is_patient=False) as watcher:
            (view,) = await watcher.next()
            seen = seen or {view.job.version}
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    while view.job.version in seen and not view.job.state.is_terminal:
                        (view,) = await watcher.next()
            return view

    async def close(self) -> None:
        """Stop following; those who watch hear nothing more."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def _watching(self, watchers: dict[str, set[Watcher]], key: str, *, is_patient: bool = True) -> Iterator[Watcher]:
        watcher = Watcher(is_patient=is_patient)
        watchers.setdefault(key, set()).add(watcher)
        (self._stale_jobs if watchers is self._of_jobs else self._stale_clients)[key] = None
        self._any_stale.set()
        if not self._tasks:
            forever = (self._follow_forever(), self._look_while_watched())
            self._tasks = [asyncio.create_task(work, context=about_nobody()) for work in forever]
        try:
            yield watcher
        finally:
            watchers[key].discard(watcher)
            if not watchers[key]:
                del watchers[key]

    def _mark(self, job_ids: Iterable[str], clients: Iterable[str] = ()) -> None:
        self._stale_jobs.update(dict.fromkeys(job_ids))
        self._stale_clients.update(dict.fromkeys(clients))
        if self._stale_jobs or self._stale_clients:
            self._any_stale.set()

    def _mark_all(self) -> None:
        self._mark(self._of_jobs, self._of_clients)

    async def _follow_forever(self) -> None:
        cursor = None
        while True:
            try:
                changes = await self._tracker.changes(cursor, self.rhythm.wait)
            except Exception as error:
                logger.warning("The tracker does not tell what changed, and is asked again: %s", error)
                self._mark_all()
                await asyncio.sleep(self.rhythm.pause)
                continue
            cursor = changes.cursor
            if changes.is_gap:
                self._mark_all()
            elif self._of_clients:
                self._mark(changes.job_ids)  # whose they are is seen when they are looked at
            else:
                self._mark(job_id for job_id in changes.job_ids if job_id in self._of_jobs)
            if changes.is_news:
                await asyncio.sleep(self.rhythm.rest)

    async def _look_while_watched(self) -> None:
        loop = asyncio.get_running_loop()
        refresh_at = loop.time() + self.rhythm.refresh
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(refresh_at):
                    await self._any_stale.wait()
            if loop.time() >= refresh_at:
                if not self._of_jobs and not self._of_clients:
                    break
                self._mark_all()
                refresh_at = loop.time() + self.rhythm.refresh
            job_ids, clients = list(self._stale_jobs), list(self._stale_clients)
            self._stale_jobs, self._stale_clients = {}, {}
            self._any_stale.clear()
            try:
                await self._look(job_ids, clients)
            except Exception as error:
                logger.warning("The tracker does not show its jobs, and is asked again: %s", error)
                self._fail_newcomers(error)
                await asyncio.sleep(self.rhythm.pause)
                self._mark(job_ids, clients)
        following, _ = self._tasks
        following.cancel()
        self._tasks = []
        self._positions.clear()

    async def _look(self, job_ids: list[str], clients: list[str]) -> None:
        wanted = dict.fromkeys(job_ids)
        since = {client: self._ended_since[client] for client in clients if client in self._ended_since}
        if since:
            next_since = datetime.now(UTC) - OVERLAP
            wanted |= dict.fromkeys(await self._tracker.jobs.of_clients(since))
            for client, looked_for in since.items():
                if self._ended_since.get(client) == looked_for:  # nobody came who wants older ones
                    self._ended_since[client] = next_since
        views = await self._tracker.get_many(self._in_order(wanted)) if wanted else {}
        for job_id in wanted:
            if job_id in views:
                self._tell(self._with_position(views[job_id]))
            else:
                for watcher in self._of_jobs.get(job_id, ()):
                    watcher.fail(UnknownJobError(f"There is no job {job_id}."))

    def _tell(self, view: JobView) -> None:
        for watcher in self._of_jobs.get(view.job.id, set()) | self._of_clients.get(view.job.request.client, set()):
            watcher.offer(view)

    def _fail_newcomers(self, error: Exception) -> None:
        for watchers in (*self._of_jobs.values(), *self._of_clients.values()):
            for watcher in watchers:
                if not (watcher.is_patient or watcher.has_seen_any):
                    watcher.fail(error)

    def _in_order(self, job_ids: Iterable[str]) -> list[str]:
        """The tracker tells the positions of the first jobs only: of those that have waited longest for theirs."""
        told = {job_id: place for place, job_id in enumerate(self._positions)}
        return sorted(job_ids, key=lambda job_id: told.get(job_id, -1))

    def _with_position(self, view: JobView) -> JobView:
        job_id = view.job.id
        if view.job.state is not JobState.PENDING:
            self._positions.pop(job_id, None)
        elif view.queue_position is not None:
            self._positions.pop(job_id, None)  # a new entry is the last one; an entry with a new value keeps its place
            self._positions[job_id] = view
        elif job_id in self._positions:
            last = self._positions[job_id]
            return replace(view, queue_position=last.queue_position, eta_seconds=last.eta_seconds)
        return view
