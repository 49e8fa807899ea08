"""Image files: their pixels, and the parameters that they carry.

Two texts go into a file: ``parameters``, which other programs read, and the metadata as JSON, as the former cannot tell
a prompt with a line "Negative prompt: ..." from a negative prompt. PNG has them in the text chunks ``parameters`` and
``cyberimage``, the other formats in EXIF and XMP.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import PIL.Image

from deployments.errors import CyberImageError
from deployments.storage.formats import FORMATS, ImageFormat
from deployments.storage.metadata.exif_and_xmp import comment_in, exif_of, json_in, xmp_of
from deployments.storage.metadata.infotext import parameters_text
from deployments.storage.metadata.png import encode_png
from deployments.storage.structure import excess_of

PARAMETERS_CHUNK = "parameters"
METADATA_CHUNK = "cyberimage"
# The JPEG marker APP1 holds 65535 bytes, its own length and the names of what is in it included.
_LARGEST_EXIF, _LARGEST_XMP = 65533, 65533 - 29


class UnreadableImageError(CyberImageError, ValueError):
    """Not a readable PNG, JPEG, WebP or AVIF file."""

    status = 422


def encode_image(
    image: PIL.Image.Image,
    metadata: Mapping[str, Any] | None,
    image_format: ImageFormat = FORMATS["png"],
    quality: int | None = None,
) -> bytes:
    """Return the image as a file, with its parameters inside.

    A JPEG has room for 64 kB of each text; one that is longer is left out.

    Args:
        image: The picture.
        metadata: What JSON can hold; ``parameters_text`` says which keys it reads. None: the file carries nothing.
        image_format: The file's format.
        quality: 1 to 100; None for the format's own. A format without loss takes none.

    Raises:
        ValueError: The metadata has a number that JSON cannot hold.
        TypeError: The metadata has something else that JSON cannot hold.
    """
    texts = {} if metadata is None else _texts_of(metadata, image.size)
    if image_format.name == "png":
        return encode_png(image, texts)
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": quality or image_format.quality, **dict(image_format.options)}
    if texts:
        exif, xmp = exif_of(texts[PARAMETERS_CHUNK]), xmp_of(texts[METADATA_CHUNK])
        has_room = image_format.name != "jpeg"
        if has_room or len(exif) <= _LARGEST_EXIF:
            options["exif"] = exif
        if has_room or len(xmp) <= _LARGEST_XMP:
            options["xmp"] = xmp
    image.save(file, format=image_format.name, **options)
    return file.getvalue()


def read_metadata(content: bytes) -> dict[str, Any]:
    """Return the metadata that ``encode_image`` was given; empty for a file of another origin.

    Args:
        content: An image file. Its pixels are not decoded.

    Raises:
        UnreadableImageError: It is not an image file, or its metadata is damaged.
    """
    with opened_image(content) as image:
        text = image.info.get(METADATA_CHUNK) or json_in(image) or "{}"
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableImageError("The image's metadata is damaged.") from error
    if not isinstance(metadata, dict):
        raise UnreadableImageError("The image's metadata is damaged.")
    return metadata


def read_parameters(content: bytes) -> str:
    """Return the ``parameters`` text of an image file, whoever wrote it; empty where it has none.

    Args:
        content: An image file. Its pixels are not decoded.

    Raises:
        UnreadableImageError: It is not an image file.
    """
    with opened_image(content) as image:
        return str(image.info.get(PARAMETERS_CHUNK) or comment_in(image))


@contextmanager
def opened_image(content: bytes) -> Iterator[PIL.Image.Image]:
    """Open an image file of one of our formats; its pixels are decoded when they are used.

    Args:
        content: The file.

    Raises:
        UnreadableImageError: It is not an image file, or proves damaged while it is open.
    """
    if (excess := excess_of(content)) is not None:
        raise UnreadableImageError(f"It is {excess}.")
    try:
        with PIL.Image.open(io.BytesIO(content), formats=[name.upper() for name in FORMATS]) as image:
            yield image
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder stumbles over
        raise UnreadableImageError from error


def _texts_of(metadata: Mapping[str, Any], size: tuple[int, int]) -> dict[str, str]:
    return {
        PARAMETERS_CHUNK: parameters_text(metadata, size),
        METADATA_CHUNK: json.dumps(dict(metadata), allow_nan=False),
    }
