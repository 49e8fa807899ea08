"""The per-model deployment, as Ray Serve runs it.

It imports torch and diffusers only where a model is loaded: whoever builds or routes to the deployment does without.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from deployments.backends import open_storage, open_tracker
from deployments.catalog import ModelEntry
from deployments.jobs.records import Claim
from deployments.settings import Settings

if TYPE_CHECKING:
    from deployments.image_model import ImageModel


class ModelReplica:
    """One replica of one model.

    Args:
        model_id: The model's key in the catalog.
        entry: What the catalog says of it.
        settings: The service's settings.
    """

    async def __init__(self, model_id: str, entry: ModelEntry, settings: Settings) -> None:  # type: ignore[misc]
        self._model: ImageModel = await asyncio.to_thread(_load, model_id, entry, settings)

    async def generate(self, claim: Claim) -> None:
        """Run a claimed job to its end, and record that end with the tracker."""
        await self._model.generate(claim)

    async def describe(self) -> dict[str, Any]:
        """What the replica has done so far."""
        return self._model.describe()

    def check_health(self) -> None:
        """Raise if the replica can make no more images; Ray Serve then replaces it."""
        self._model.check_health()


def _load(model_id: str, entry: ModelEntry, settings: Settings) -> ImageModel:
    from deployments.image_model import ImageModel  # noqa: PLC0415 - it imports torch

    return ImageModel(model_id, entry, open_storage(settings), open_tracker(settings))
