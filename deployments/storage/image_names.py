"""Names of images: their ids, and the keys of their files."""

from __future__ import annotations

from datetime import date
from uuid import UUID, uuid5


def image_id(job_id: str, index: int) -> str:
    """Return the id of an image: always the same for the same place in the same job (RFC 9562, UUID version 5).

    Args:
        job_id: The job's UUID.
        index: The image's place among the job's images, from 0.

    Raises:
        ValueError: The job id is not a UUID.
    """
    return str(uuid5(UUID(job_id), f"image/{index}"))


def image_key(image_id: str, created: date, extension: str) -> str:
    """Return where storage keeps an image: ``YYYY/MM/DD/<id>.<extension>``.

    Args:
        image_id: The image's id.
        created: The day the *job* was created, in UTC, so that every attempt has the same key.
        extension: Without the dot, in small letters: png.
    """
    return f"{created.year:04}/{created.month:02}/{created.day:02}/{image_id}.{extension}"
