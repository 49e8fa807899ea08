"""The newest changes of jobs, numbered, in memory, for those who follow jobs."""

from __future__ import annotations

from collections import OrderedDict
from uuid import uuid4

from deployments.jobs.records.jobs import Record

MOST_JOBS = 10_000


class Changes(Record):
    """Which jobs have changed since a cursor was given out."""

    cursor: str
    """To ask from, the next time."""
    job_ids: list[str]
    is_gap: bool
    """Whether there may be more of them than these: then whoever follows jobs must look at each."""

    @property
    def is_news(self) -> bool:
        """Whether there is anything to do about them."""
        return self.is_gap or bool(self.job_ids)


class ChangeLog:
    """Remembers of each job its newest change, by a number that rises with every change of any job.

    A cursor is a number, and the random id of this log's life: the numbers of an earlier life mean nothing here.

    Args:
        most_jobs: Jobs to remember; a cursor older than the first of them gives a gap.
    """

    def __init__(self, most_jobs: int = MOST_JOBS) -> None:
        self._most_jobs = most_jobs
        self._life = uuid4().hex
        self._number = 0
        self._forgotten = 0
        self._newest: OrderedDict[str, int] = OrderedDict()

    def note(self, job_id: str) -> None:
        """Give a change of a job the next number."""
        self._number += 1
        self._newest[job_id] = self._number
        self._newest.move_to_end(job_id)
        while len(self._newest) > self._most_jobs:
            _, self._forgotten = self._newest.popitem(last=False)

    def since(self, cursor: str | None) -> Changes:
        """Return what changed after a cursor; None, or a cursor of another life, gives a gap."""
        life, _, number = (cursor or "").partition(":")
        now = f"{self._life}:{self._number}"
        if life != self._life or int(number) < self._forgotten:
            return Changes(cursor=now, job_ids=[], is_gap=True)
        changed = []
        for job_id, newest in reversed(self._newest.items()):
            if newest <= int(number):
                break
            changed.append(job_id)
        return Changes(cursor=now, job_ids=changed[::-1], is_gap=False)
