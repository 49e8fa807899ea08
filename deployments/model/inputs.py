"""The pictures that a job starts from: read, and made to fit what its pipeline is called with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import PIL.Image

from deployments.jobs.records.exceptions import UnknownPictureError
from deployments.jobs.records.jobs import Picture
from deployments.parameters import GenerationSettings
from deployments.pipelines.exceptions import UnsuitableRequestError
from deployments.storage.base import MissingObjectError, Storage
from deployments.storage.metadata.image_file import UnreadableImageError, opened_image
from deployments.tracker.job_tracker import JobTracker


@dataclass(frozen=True)
class JobInputs:
    """What a job starts from besides its prompt.

    Attributes:
        pictures: By the names that they have in the call of the task's pipeline.
        lineage: For the image's metadata: what it was made from.
    """

    pictures: Mapping[str, PIL.Image.Image] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)


async def read_inputs(tracker: JobTracker, storage: Storage, settings: GenerationSettings) -> JobInputs:
    """Read a job's pictures; each is resized (Lanczos) to the job's own size.

    Args:
        tracker: Knows where they are.
        storage: Has their bytes.
        settings: Of the job.

    Raises:
        UnsuitableRequestError: One of them is no longer there.
        StorageError: One of them could not be read; trying again may help.
    """
    records = {name: await _find(tracker, name, picture_id) for name, picture_id in settings.pictures.items()}
    pictures = {}
    for name, record in records.items():
        content = await _read(storage, name, record)
        argument = "mask_image" if name == "mask" else name
        pictures[argument] = await asyncio.to_thread(_prepare, name, content, settings)
    return JobInputs(
        pictures=pictures,
        lineage={name: record.model_dump(include={"id", "kind", "sha256"}) for name, record in records.items()},
    )


async def _find(tracker: JobTracker, name: str, picture_id: str) -> Picture:
    try:
        return await tracker.inputs.picture(picture_id)
    except UnknownPictureError:
        raise _gone(name, picture_id) from None


async def _read(storage: Storage, name: str, record: Picture) -> bytes:
    try:
        return await storage.read(record.key)
    except MissingObjectError:
        raise _gone(name, record.id) from None


def _gone(name: str, picture_id: str) -> UnsuitableRequestError:
    return UnsuitableRequestError(f"{name}: the picture {picture_id} is no longer there; send it again.")


def _prepare(name: str, content: bytes, settings: GenerationSettings) -> PIL.Image.Image:
    try:
        with opened_image(content) as image:
            mode, ground = ("L", "black") if name == "mask" else ("RGB", "white")
            flat = _flattened(image, ground).convert(mode)
    except UnreadableImageError as error:
        raise UnsuitableRequestError(f"{name}: its file is damaged; send the picture again.") from error
    size = (settings.width, settings.height)
    return flat if flat.size == size else flat.resize(size, PIL.Image.Resampling.LANCZOS)


def _flattened(image: PIL.Image.Image, ground: str) -> PIL.Image.Image:
    """What is transparent shows the ground: white paper; of a mask black, which is kept as it is."""
    if not image.has_transparency_data:
        return image
    picture = image.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", picture.size, ground), picture)
