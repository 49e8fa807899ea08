"""Many images as one ZIP file, written while they are read."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from zipstream import ZIP_STORED, ZipStream

from deployments.jobs.records.jobs import Image
from deployments.storage.base import Storage, StorageError

MISSING_NAME = "missing.txt"

logger = logging.getLogger(__name__)


async def zip_images(storage: Storage, images: Sequence[Image], unknown: Sequence[str]) -> AsyncIterator[bytes]:
    """Yield the bytes of a ZIP file; only one image is in memory at a time, and none is compressed once more.

    Args:
        storage: Where the images are.
        images: What goes in, as ``<id>.<extension>``.
        unknown: Ids that there is nothing of. They, and images whose file could not be read, are named in the file
            ``missing.txt``: the answer has begun by then, and cannot become an error.
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
