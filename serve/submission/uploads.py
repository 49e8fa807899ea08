"""Pictures that clients send for jobs to start from: checked, cleaned and kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID, uuid5

import PIL.Image

from deployments.jobs.records.jobs import Input, NewInput
from deployments.storage.image_names import image_key
from deployments.storage.metadata.image_file import encode_image
from deployments.storage.picture import PictureError, PictureTooLargeError, decode_picture
from serve.services.services import Services

Convert = Callable[[PIL.Image.Image], PIL.Image.Image]

_INPUTS = UUID("b1d2c3a4-7e0f-5a6b-8c9d-2f4e6a8b0c1d")
# A decoded picture takes a hundred times its file's bytes, so that only few are decoded at the same time.
_DECODERS = ThreadPoolExecutor(2, thread_name_prefix="decode")


async def keep_field(
    services: Services, field: str, content: bytes, client: str, convert: Convert | None = None
) -> Input:
    """Keep a picture that came in a field of a request, as :func:`keep_upload`, whose errors then name the field."""
    try:
        return await keep_upload(services, content, client, convert)
    except PictureError as error:
        raise type(error)(f"{field}: {error}") from error


async def keep_upload(services: Services, content: bytes, client: str, convert: Convert | None = None) -> Input:
    """Keep a picture for jobs to start from; the same picture of the same client is kept once.

    Args:
        services: The parts behind the edge.
        content: A PNG, JPEG or WebP file.
        client: Who sent it.
        convert: What is made of the picture before it is kept; it may raise :class:`PictureError`.

    Raises:
        PictureError: It cannot be taken; the message says why.
        StorageError: It could not be kept; trying again is harmless.
    """
    settings, loop = services.settings, asyncio.get_running_loop()
    if len(content) > settings.max_upload_bytes:  # as a part of a body it had the room of all parts together
        told = f"The file has {len(content)} bytes; at most {settings.max_upload_bytes} are taken."
        raise PictureTooLargeError(told)
    size, clean = await loop.run_in_executor(_DECODERS, _clean, content, settings.max_upload_pixels, convert)
    digest = hashlib.sha256(clean).hexdigest()
    identity = str(uuid5(_INPUTS, json.dumps([client, digest])))
    known = await services.tracker.inputs.find(identity)
    key = known.key if known else image_key(identity, datetime.now(UTC).date(), "png")
    if known is None or not await services.storage.exists(key):
        await services.storage.write(key, clean)
    return await services.tracker.inputs.add(
        NewInput(
            id=identity,
            key=key,
            sha256=digest,
            width=size[0],
            height=size[1],
            byte_count=len(clean),
            client=client,
        )
    )


def _clean(content: bytes, max_pixels: int, convert: Convert | None) -> tuple[tuple[int, int], bytes]:
    """Width and height, and the picture as a PNG without metadata."""
    picture: PIL.Image.Image = decode_picture(content, max_pixels)
    if convert is not None:
        picture = convert(picture)
    return picture.size, encode_image(picture, None)
