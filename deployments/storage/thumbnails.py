"""Small pictures of images: WebP files that storage keeps beside them."""

from __future__ import annotations

import io
import logging
from collections.abc import Awaitable, Callable

import PIL.Image

from deployments.storage.base import Storage, StorageError
from deployments.storage.formats import FORMATS
from deployments.storage.metadata.image_file import UnreadableImageError

THUMBNAIL_SIZES = (256, 512)
MEDIA_TYPE = FORMATS["webp"].media_type

logger = logging.getLogger(__name__)


def thumbnail_key(image_key: str, size: int) -> str:
    """Return where storage keeps a thumbnail: ``YYYY/MM/DD/<id>.<size>.webp``.

    Args:
        image_key: The image's key.
        size: One of ``THUMBNAIL_SIZES``.
    """
    return f"{image_key.rpartition('.')[0]}.{size}.{FORMATS['webp'].extension}"


def encode_thumbnail(picture: PIL.Image.Image, size: int) -> bytes:
    """Return a thumbnail, with nothing of the image's metadata.

    Args:
        picture: The image.
        size: Of the longer side, in pixels; a smaller image keeps its own size.
    """
    small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    small.thumbnail((size, size), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, format="WEBP", quality=80, method=2, exif=b"", xmp=b"")
    return file.getvalue()


async def make_thumbnail(
    storage: Storage, image_key: str, size: int, encode: Callable[[bytes, int], Awaitable[bytes]]
) -> bytes:
    """Make a thumbnail of an image that has none, keep it, and return it.

    Args:
        storage: Where the image is.
        image_key: The image's key.
        size: See ``encode_thumbnail``.
        encode: Makes a thumbnail of this size of an image's file.

    Raises:
        MissingObjectError: There is no such image.
        StorageError: It could not be read, or is damaged.
    """
    content = await storage.read(image_key)
    try:
        thumbnail = await encode(content, size)
    except UnreadableImageError:
        raise StorageError(f"The image file {image_key} is damaged.") from None
    await write_thumbnails(storage, image_key, {size: thumbnail})
    return thumbnail


async def write_thumbnails(storage: Storage, image_key: str, thumbnails: dict[int, bytes]) -> None:
    """Write the thumbnails of an image; one that cannot be written is made again when a client requests it.

    Args:
        storage: Where to.
        image_key: The image's key.
        thumbnails: By size.
    """
    for size, content in thumbnails.items():
        try:
            await storage.write(thumbnail_key(image_key, size), content)
        except StorageError as error:
            logger.warning("A thumbnail was not kept: %s", error)


async def delete_image_files(storage: Storage, image_key: str) -> None:
    """Remove an image with its thumbnails; what is not there is no error.

    Args:
        storage: Where from.
        image_key: The image's key.

    Raises:
        StorageError: Something could not be removed; trying again is harmless.
    """
    for key in (*(thumbnail_key(image_key, size) for size in THUMBNAIL_SIZES), image_key):
        await storage.delete(key)
