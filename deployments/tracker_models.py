"""The part of the job tracker that knows how models are."""

from __future__ import annotations

from collections.abc import Mapping

from deployments.model_state import ModelCondition, ModelConditions


class TrackerModels:
    """Conditions of models, in memory; a tracker that was restarted hears of them anew within seconds."""

    _models: ModelConditions

    async def announce_model(self, model_id: str, fingerprint: str, load_failure: str) -> None:
        """Note what a copy of a model says of itself, as :meth:`ModelConditions.note`."""
        self._models.note(model_id, fingerprint, load_failure)

    async def model_conditions(self, fingerprints: Mapping[str, str]) -> dict[str, ModelCondition]:
        """Return the condition of each model of a catalog, by its entries' fingerprints."""
        return self._models.of(fingerprints)
