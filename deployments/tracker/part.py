"""What the parts of the job tracker are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod

from deployments.jobs.store import JobStore


class TrackerPart(ABC):
    """Methods of :class:`JobTracker` that go together; that one opens the store."""

    @abstractmethod
    async def _store(self) -> JobStore:
        """Return the store, opened by the first call that needs it."""
