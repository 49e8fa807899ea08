"""Image models that are loaded, or have failed to."""

from __future__ import annotations

from deployments.catalog.entry import ModelEntry
from deployments.model.image_model import ImageModel
from deployments.model.loaded_model import LoadedModel
from deployments.storage.base import Storage
from deployments.tracker.job_tracker import JobTracker


def image_model(model_id: str, entry: ModelEntry, storage: Storage, tracker: JobTracker) -> ImageModel:
    """A model as its replica has it once it was loaded."""
    loaded = LoadedModel(model_id, entry)
    loaded.load()
    return ImageModel(loaded, storage, tracker)
