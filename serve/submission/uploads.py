"""Pictures that clients send for jobs to start from: checked, cleaned and kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID, uuid5

from deployments.jobs.records.jobs import Input, NewInput
from deployments.storage.image_names import image_key
from deployments.storage.masks import MaskForm
from deployments.storage.picture import PictureError, PictureTooLargeError
from serve.protection.identity import Identity
from serve.services.services import Services

_INPUTS = UUID("b1d2c3a4-7e0f-5a6b-8c9d-2f4e6a8b0c1d")


async def keep_field(
    services: Services, field: str, content: bytes, who: Identity, mask_form: MaskForm | None = None
) -> Input:
    """Keep a picture that came in a field of a request, as :func:`keep_upload`, whose errors then name the field."""
    try:
        return await keep_upload(services, content, who, mask_form)
    except PictureError as error:
        raise type(error)(f"{field}: {error}") from error


async def keep_upload(services: Services, content: bytes, who: Identity, mask_form: MaskForm | None = None) -> Input:
    """Keep a picture for jobs to start from; the same picture of the same client is kept once.

    Args:
        services: The parts behind the edge.
        content: A PNG, JPEG or WebP file.
        who: Who sent it.
        mask_form: For a mask: which parts of it are repainted, if not the white ones.

    Raises:
        PictureError: It cannot be taken; the message says why.
        StorageError: It could not be kept; trying again is harmless.
    """
    settings = services.settings
    if len(content) > settings.max_upload_bytes:  # as a part of a body it had the room of all parts together
        told = f"The file has {len(content)} bytes; at most {settings.max_upload_bytes} are taken."
        raise PictureTooLargeError(told)
    clean = await services.picture_workers.clean(who.rate_key, content, mask_form)
    identity = str(uuid5(_INPUTS, json.dumps([who.name, clean.sha256])))
    known = await services.tracker.inputs.find(identity)
    key = known.key if known else image_key(identity, datetime.now(UTC).date(), "png")
    if known is None or not await services.storage.exists(key):
        await services.storage.write(key, clean.content)
    return await services.tracker.inputs.add(
        NewInput(
            id=identity,
            key=key,
            sha256=clean.sha256,
            width=clean.width,
            height=clean.height,
            byte_count=len(clean.content),
            client=who.name,
        )
    )
