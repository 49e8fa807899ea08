"""What is done with a picture in a process of its own: what a client sent becomes clean, an image of ours small."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import PIL.Image

from deployments.errors import CyberImageError
from deployments.storage.formats import FORMATS
from deployments.storage.masks import CONVERSIONS, MaskForm, NoTransparencyError
from deployments.storage.metadata.image_file import UnreadableImageError, encode_image, opened_image
from deployments.storage.picture import (
    AnimatedPictureError,
    DamagedPictureError,
    PictureTooCostlyError,
    PictureTooLargeError,
    WrongFormatError,
    decode_picture,
)
from deployments.storage.thumbnails import encode_thumbnail

BeforePixels = Callable[[int], None]
"""Called with width times height before pixels are decoded or made."""
Made = tuple[tuple[int, int], bytes]
"""Width and height, and the file."""


def _clean(content: bytes, before_pixels: BeforePixels, max_pixels: int, mask_form: MaskForm | None) -> Made:
    """Return a client's picture as a PNG without metadata."""
    picture: PIL.Image.Image = decode_picture(content, max_pixels, before_pixels)
    if mask_form is not None:
        picture = CONVERSIONS[mask_form](picture)
    return picture.size, encode_image(picture, None)


def _thumbnail(content: bytes, before_pixels: BeforePixels, size: int) -> Made:
    with opened_image(content) as picture:
        before_pixels(picture.width * picture.height)
        return picture.size, encode_thumbnail(picture, size)


def _enlarge(
    content: bytes, before_pixels: BeforePixels, size: Sequence[int], output_format: str, quality: int | None
) -> Made:
    """Scale a preview, which has one pixel for each position of the latents, to the size of its job's images."""
    width, height = size
    before_pixels(width * height)
    with PIL.Image.open(io.BytesIO(content)) as small:
        picture = small.convert("RGB").resize((width, height), PIL.Image.Resampling.BICUBIC)
    return picture.size, encode_image(picture, None, FORMATS[output_format], quality)


TASKS: Mapping[str, Callable[..., Made]] = {"clean": _clean, "thumbnail": _thumbnail, "enlarge": _enlarge}
"""By name; each takes the file, :data:`BeforePixels`, and arguments that JSON can hold."""
REFUSALS: Mapping[str, type[CyberImageError]] = {
    each.__name__: each
    for each in (
        WrongFormatError,
        PictureTooLargeError,
        AnimatedPictureError,
        DamagedPictureError,
        PictureTooCostlyError,
        NoTransparencyError,
        UnreadableImageError,
    )
}
"""What tasks raise, by name."""
