"""The part of the job tracker that knows how models are."""

from __future__ import annotations

from collections.abc import Mapping

from deployments.jobs.queue.views import ModelLoad
from deployments.jobs.records.jobs import Job, JobPhase, JobState
from deployments.tracker.model_loads import ModelLoads
from deployments.tracker.model_state import ModelCondition, ModelConditions


class TrackerModels:
    """Conditions of models, in memory; a tracker that was restarted hears of them anew within seconds."""

    _models: ModelConditions
    _loads: ModelLoads

    async def announce_model(self, model_id: str, fingerprint: str, load_failure: str, replica: str) -> None:
        """Note what a copy of a model says of itself, as :meth:`ModelConditions.note`."""
        self._models.note(model_id, fingerprint, load_failure, replica)

    async def announce_load(self, model_id: str, replica: str, seconds: float, *, is_over: bool) -> None:
        """Note how far a copy of a model is with loading it, as :meth:`ModelLoads.note`."""
        self._loads.note(model_id, replica, seconds, is_over=is_over)

    async def model_conditions(self, fingerprints: Mapping[str, str]) -> dict[str, ModelCondition]:
        """Return the condition of each model of a catalog, by its entries' fingerprints."""
        return self._models.of(fingerprints)

    def _load_of(self, job: Job) -> ModelLoad | None:
        """The load that a job waits for."""
        waits = job.state is JobState.PROCESSING and job.phase is JobPhase.LOADING_MODEL
        return self._loads.of(job.request.model_id) if waits else None
