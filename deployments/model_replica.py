"""The per-model deployment, as Ray Serve runs it.

It imports torch and diffusers only where a model is loaded: whoever builds or routes to the deployment does without.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from deployments.backends import open_tracker
from deployments.catalog import ModelEntry
from deployments.image_storage import open_storage
from deployments.job_tracker import JobTracker
from deployments.jobs.records import Claim
from deployments.measuring import ReplicaMeter, repeat
from deployments.model_state import ANNOUNCE_SECONDS
from deployments.settings import Settings
from deployments.storage.patience import patient

if TYPE_CHECKING:
    from deployments.image_model import ImageModel

logger = logging.getLogger(__name__)


class ModelReplica:
    """One replica of one model.

    Args:
        model_id: The model's key in the catalog.
        entry: What the catalog says of it.
        settings: The service's settings.
    """

    async def __init__(self, model_id: str, entry: ModelEntry, settings: Settings) -> None:  # type: ignore[misc]
        tracker = await asyncio.to_thread(open_tracker, settings)
        began = time.monotonic()
        self._model: ImageModel = await asyncio.to_thread(_load, model_id, entry, settings, tracker)
        self._meter = ReplicaMeter(model_id, time.monotonic() - began, is_available=not self._model.load_failure)
        self._measuring = asyncio.create_task(repeat(self._measure))
        self._announcing = asyncio.create_task(
            announce_forever(tracker, model_id, entry.fingerprint, self._model.load_failure)
        )

    async def generate(self, claim: Claim) -> None:
        """Run a claimed job to its end, and record that end with the tracker."""
        with self._meter.job(claim):
            await self._model.generate(claim)

    async def describe(self) -> dict[str, Any]:
        """What the replica has done so far."""
        return self._model.describe()

    def check_health(self) -> None:
        """Raise if the replica can make no more images; Ray Serve then replaces it."""
        self._model.check_health()

    async def _measure(self) -> None:
        self._meter.note(self._model.describe())


async def announce_forever(
    tracker: JobTracker, model_id: str, fingerprint: str, load_failure: str, every_seconds: float = ANNOUNCE_SECONDS
) -> None:
    """Tell the tracker again and again how loading went: it keeps that in memory, and forgets who is silent.

    Args:
        tracker: The job tracker.
        model_id: The model's key in the catalog.
        fingerprint: Of its entry there.
        load_failure: Why the model could not be loaded; empty if it was.
        every_seconds: Between two calls.
    """
    while True:
        try:
            await tracker.announce_model(model_id, fingerprint, load_failure)
        except Exception:
            logger.exception("The tracker was not told the state of %s; it will be tried again", model_id)
        await asyncio.sleep(every_seconds)


def _load(model_id: str, entry: ModelEntry, settings: Settings, tracker: JobTracker) -> ImageModel:
    from deployments.image_model import ImageModel  # noqa: PLC0415 - it imports torch

    costs_file = settings.data_dir / "forward-costs" / f"{model_id}.json"
    storage = patient(open_storage(settings), settings.storage.patience_seconds)
    return ImageModel(model_id, entry, storage, tracker, costs_file)
