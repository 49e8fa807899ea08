"""Writes many images into one ZIP file while it is sent."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from zipstream import ZIP_STORED, ZipStream

from deployments.jobs.records.jobs import Image
from deployments.storage.base import Storage, StorageError
from serve.errors import ApiError

MISSING_NAME = "missing.txt"

logger = logging.getLogger(__name__)


class ArchiveTooLargeError(ApiError):
    """The images are too large for one archive."""

    status = 413
    code = "archive_too_large"


def require_small_archive(images: Sequence[Image], most_bytes: int) -> None:
    """Raise :class:`ArchiveTooLargeError` for more bytes of images than one archive may have."""
    total = sum(image.byte_count for image in images)
    if total > most_bytes:
        raise ArchiveTooLargeError(
            f"ids: these images have {total} bytes; {most_bytes} or fewer can be downloaded at once, so send fewer ids."
        )


async def zip_images(storage: Storage, images: Sequence[Image], unknown: Sequence[str]) -> AsyncIterator[bytes]:
    """Yield the bytes of a ZIP file; only one image at a time is in memory. Images are stored, not compressed again.

    Args:
        storage: Holds the images.
        images: The members, as ``<id>.<extension>``.
        unknown: Ids without an image. The member ``missing.txt`` lists them and the images whose file cannot be read:
            the answer has begun by then, and cannot become an error.
    """
    archive = ZipStream(compress_type=ZIP_STORED)
    missing = [f"{image_id}: there is no such image." for image_id in unknown]
    for image in images:
        try:
            content = await storage.read(image.key)
        except StorageError as error:
            logger.warning("An image is not in the archive that was asked for: %s", error)
            missing.append(f"{image.id}: {error}")
            continue
        archive.add(content, f"{image.id}.{image.key.rpartition('.')[2]}")
        for piece in archive.all_files():
            yield piece
    if missing:
        archive.add("\n".join([*missing, ""]), MISSING_NAME)
    for piece in archive.finalize():
        yield piece
