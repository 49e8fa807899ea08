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
from serve.services.watchers import Watcher, Watchers

logger = logging.getLogger(__name__)

MOST_POSITIONS = 10_000
# How far the clocks and the commits of several trackers may lie apart.
OVERLAP = timedelta(seconds=10)


@dataclass(frozen=True)
class Rhythm:
    """When the feed does what; all in seconds.

    Attributes:
        wait: The longest wait in one call of the tracker.
        refresh: After which all watched jobs are looked at again, changed or not.
        rest: After a change, so that those which follow closely make one look.
        pause: After a call that failed.
        heartbeat: Between two comments to a client who watches, which keep its connection.
    """

    wait: float = 20.0
    refresh: float = 4.0
    rest: float = 0.1
    pause: float = 1.0
    heartbeat: float = 15.0


class JobFeed:
    """Follows the jobs that are watched in this process.

    One long poll returns the jobs that changed, and one call reads those that somebody watches, however many do. All of
    them are read again after a gap in the changes and every few seconds, as another tracker may have changed a job. The
    feed calls nobody while nobody watches.

    Args:
        tracker: The job tracker.
        rhythm: When to do what.
    """

    def __init__(self, tracker: JobTracker, rhythm: Rhythm) -> None:
        self._tracker = tracker
        self.rhythm = rhythm
        self._any_stale = asyncio.Event()
        self._of_jobs = Watchers(self._any_stale)
        self._of_clients = Watchers(self._any_stale)
        self._ended_since: dict[str, datetime] = {}
        # Of pending jobs, the one whose position was read longest ago first.
        self._positions: FIFOCache[str, JobView] = FIFOCache(MOST_POSITIONS)
        self._tasks: list[asyncio.Task[None]] = []

    @contextmanager
    def watch_job(self, job_id: str, *, is_patient: bool = True) -> Iterator[Watcher]:
        """Watch one job: its view of now is the first news.

        Args:
            job_id: The job.
            is_patient: As of :class:`Watcher`.
        """
        self._follow()
        with self._of_jobs.watching(job_id, is_patient=is_patient) as watcher:
            yield watcher

    @contextmanager
    def watch_client(self, client: str, ended_since: datetime) -> Iterator[Watcher]:
        """Watch all jobs of a client; those that are open, or ended at ``ended_since`` or later, are the first news."""
        self._follow()
        self._ended_since[client] = min(ended_since, self._ended_since.get(client, ended_since))
        try:
            with self._of_clients.watching(client) as watcher:
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
        with self.watch_job(job_id, is_patient=False) as watcher:
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
        with self.watch_job(job_id, is_patient=False) as watcher:
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

    def _follow(self) -> None:
        if not self._tasks:
            forever = (self._follow_forever(), self._look_while_watched())
            self._tasks = [asyncio.create_task(work, context=about_nobody()) for work in forever]

    def _mark_all(self) -> None:
        self._of_jobs.mark_all()
        self._of_clients.mark_all()

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
                self._of_jobs.mark(changes.job_ids)  # whose they are is seen when they are looked at
            else:
                self._of_jobs.mark(job_id for job_id in changes.job_ids if job_id in self._of_jobs)
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
            job_ids, clients = self._of_jobs.take_stale(), self._of_clients.take_stale()
            self._any_stale.clear()
            try:
                await self._look(job_ids, clients)
            except Exception as error:
                logger.warning("The tracker does not show its jobs, and is asked again: %s", error)
                self._fail_newcomers(error)
                await asyncio.sleep(self.rhythm.pause)
                self._of_jobs.mark(job_ids)
                self._of_clients.mark(clients)
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
                for watcher in self._of_jobs.of(job_id):
                    watcher.fail(UnknownJobError(f"There is no job {job_id}."))

    def _tell(self, view: JobView) -> None:
        for watcher in self._of_jobs.of(view.job.id) | self._of_clients.of(view.job.request.client):
            watcher.offer(view)

    def _fail_newcomers(self, error: Exception) -> None:
        for watcher in (*self._of_jobs, *self._of_clients):
            if not (watcher.is_patient or watcher.has_seen_any):
                watcher.fail(error)

    def _in_order(self, job_ids: Iterable[str]) -> list[str]:
        """Those whose position was read longest ago come first: the tracker counts positions of the first jobs only."""
        places = {job_id: place for place, job_id in enumerate(self._positions)}
        return sorted(job_ids, key=lambda job_id: places.get(job_id, -1))

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
