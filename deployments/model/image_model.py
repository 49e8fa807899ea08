"""Runs the jobs of one model."""

from __future__ import annotations

import asyncio
from typing import Self

from deployments.background import TaskSet
from deployments.catalog.entry import ModelEntry
from deployments.jobs.records.jobs import Claim
from deployments.model.attempt import Attempt
from deployments.model.loaded_model import LoadedModel
from deployments.settings.service import Settings
from deployments.storage.base import Storage
from deployments.storage.opening import open_storage
from deployments.storage.patience import patient
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.progress import ProgressReporter


class ImageModel:
    """Turns claims into stored images.

    Args:
        loaded: The model; whoever has made it loads it, and its jobs fail as long as it is not.
        storage: Where images go.
        tracker: The cluster's job tracker.
        report_seconds: Between two reports on where its jobs stand.

    Attributes:
        loaded: As given.
        work: The jobs that run.
    """

    def __init__(
        self, loaded: LoadedModel, storage: Storage, tracker: JobTracker, *, report_seconds: float = 0.2
    ) -> None:
        self.loaded = loaded
        self._storage = storage
        self._tracker = tracker
        self._reporter = ProgressReporter(tracker, report_seconds)
        self.work = TaskSet()

    @classmethod
    def opened(cls, model_id: str, entry: ModelEntry, settings: Settings, tracker: JobTracker) -> Self:
        """A model that is not loaded yet, with the storage and the folder that the service's settings name."""
        loaded = LoadedModel(model_id, entry, settings.data_dir / "forward-costs" / f"{model_id}.json")
        storage = patient(open_storage(settings.storage, settings.images_dir), settings.storage.patience_seconds)
        return cls(loaded, storage, tracker, report_seconds=settings.dispatch.report_seconds)

    async def generate(self, claim: Claim) -> None:
        """Run a claimed job to its end, and record that end with the tracker.

        The job does not depend on the caller: if the dispatcher goes away, it is finished all the same.
        """
        attempt = Attempt(claim, self.loaded, self._storage, self._tracker, self._reporter)
        await asyncio.shield(self.work.start(attempt.run()))
