"""Encodes a picture and its thumbnails, and writes them to storage."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image as Picture

from deployments.jobs.records.jobs import Claim, NewImage
from deployments.parameters import GenerationSettings
from deployments.storage.base import Storage
from deployments.storage.formats import FORMATS
from deployments.storage.image_names import image_id, image_key
from deployments.storage.metadata.image_file import encode_image
from deployments.storage.thumbnails import THUMBNAIL_SIZES, encode_thumbnail, write_thumbnails
from deployments.telemetry.metrics import IMAGE_WRITE_SECONDS


async def save_image(
    storage: Storage, claim: Claim, index: int, picture: np.ndarray[Any, Any], metadata: Mapping[str, Any]
) -> NewImage:
    """Write an image and its thumbnails, encoded in a thread of their own, and return the record to be made of it.

    Args:
        storage: Where to.
        claim: The image's job.
        index: Its place among the job's images, from 0.
        picture: Height x width x channels, 0 to 1.
        metadata: For the record, and for the file unless the job wants none there.

    Raises:
        StorageError: The image could not be written.
    """
    settings = claim.request.settings
    content, thumbnails = await asyncio.to_thread(_encode, picture, metadata, settings)
    image_format, identity = FORMATS[settings.output_format], image_id(claim.job_id, index)
    key = image_key(identity, claim.created_at.date(), image_format.extension)
    with IMAGE_WRITE_SECONDS.timing(model=claim.request.model_id):
        await storage.write(key, content)
        await write_thumbnails(storage, key, thumbnails)
    return NewImage(
        id=identity,
        index=index,
        key=key,
        media_type=image_format.media_type,
        byte_count=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        metadata=dict(metadata),
    )


def _encode(
    values: np.ndarray[Any, Any], metadata: Mapping[str, Any], settings: GenerationSettings
) -> tuple[bytes, dict[int, bytes]]:
    """The image file, and the thumbnails by size."""
    picture = Picture.fromarray(np.rint(values * 255).astype(np.uint8))
    embedded = metadata if settings.metadata else None
    content = encode_image(picture, embedded, FORMATS[settings.output_format], settings.quality)
    return content, {size: encode_thumbnail(picture, size) for size in THUMBNAIL_SIZES}
