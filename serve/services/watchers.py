"""Those who watch jobs in this process, and what they have not read yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from deployments.jobs.queue.views import JobView

MOST_UNREAD_JOBS = 1000


class UnreadJobsError(Exception):
    """More jobs changed than are kept for one who does not read; watch again."""


class Watcher:
    """What one who watches has not read yet: of each job the newest view only.

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
            UnknownJobError: A watched job does not exist, or was removed.
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


class Watchers:
    """Everybody who watches one kind of thing, by its key; and the stale keys, which the feed reads next.

    Args:
        any_stale: To be set when a key becomes stale.
    """

    def __init__(self, any_stale: asyncio.Event) -> None:
        self._any_stale = any_stale
        self._of_keys: dict[str, set[Watcher]] = {}
        self._stale: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._of_keys

    def __bool__(self) -> bool:
        return bool(self._of_keys)

    def __iter__(self) -> Iterator[Watcher]:
        for watchers in self._of_keys.values():
            yield from watchers

    def of(self, key: str) -> set[Watcher]:
        """Those who watch a key."""
        return self._of_keys.get(key, set())

    @contextmanager
    def watching(self, key: str, *, is_patient: bool = True) -> Iterator[Watcher]:
        """Watch a key, which is stale at first."""
        watcher = Watcher(is_patient=is_patient)
        self._of_keys.setdefault(key, set()).add(watcher)
        self.mark([key])
        try:
            yield watcher
        finally:
            self._of_keys[key].discard(watcher)
            if not self._of_keys[key]:
                del self._of_keys[key]

    def mark(self, keys: Iterable[str]) -> None:
        """Make keys stale, watched ones or not."""
        self._stale.update(dict.fromkeys(keys))
        if self._stale:
            self._any_stale.set()

    def mark_all(self) -> None:
        """Make all watched keys stale."""
        self.mark(self._of_keys)

    def take_stale(self) -> list[str]:
        """Return the stale keys, each once, in the order in which they became stale; they are stale no longer."""
        stale, self._stale = self._stale, {}
        return list(stale)
