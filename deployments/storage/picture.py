"""Pictures from outside: what can be wrong with a file is found out before, or while, it is decoded."""

from __future__ import annotations

import io
from collections.abc import Callable

import PIL.Image
import PIL.ImageOps

from deployments.errors import CyberImageError
from deployments.storage.structure import excess_of

_FORMATS = ("PNG", "JPEG", "WEBP")
_HIGH_DEPTH = ("I;16", "I;16L", "I;16B", "I;16N", "I")


class PictureError(CyberImageError, ValueError):
    """The picture cannot be taken."""

    status = 400
    code = "invalid_picture"


class WrongFormatError(PictureError):
    """The file is not a PNG, JPEG or WebP picture; send one of those."""

    status = 415
    code = "unsupported_media_type"


class PictureTooLargeError(PictureError):
    """The picture has too many pixels, or its file too many bytes."""

    status = 413
    code = "picture_too_large"


class AnimatedPictureError(PictureError):
    """The picture is an animation; send a single frame of it."""


class DamagedPictureError(PictureError):
    """The picture is damaged or incomplete and cannot be decoded; save it anew and send that."""


class PictureTooCostlyError(PictureError):
    """The picture takes too long, or too much memory, to decode; save it again as a plain PNG, JPEG or WebP file."""

    code = "picture_too_costly"


def decode_picture(
    content: bytes, max_pixels: int, before_pixels: Callable[[int], None] = lambda pixels: None
) -> PIL.Image.Image:
    """Decode a file that anybody may have sent.

    Its cost has a limit by its pixels, and not by time and memory: :mod:`deployments.decoding` sets those.

    Args:
        content: The file.
        max_pixels: Width times height that is decoded at most.
        before_pixels: Called with width times height once the header is checked, before a pixel is decoded.

    Returns:
        The picture upright, as its EXIF orientation says, without metadata or colour profile, in mode ``L`` or
        ``RGB``, or ``RGBA`` where some of it may be transparent.

    Raises:
        WrongFormatError: It is no PNG, JPEG or WebP file.
        PictureTooLargeError: It has more pixels than that.
        AnimatedPictureError: It has several frames.
        PictureTooCostlyError: Its file has far more parts than usual, or the memory does not suffice.
        DamagedPictureError: It cannot be decoded.
    """
    if (excess := excess_of(content)) is not None:
        raise PictureTooCostlyError(f"The picture is {excess}; save it again as a plain JPEG or PNG file.")
    with _opened(content, max_pixels) as image:
        _check_header(image, max_pixels)
        before_pixels(image.width * image.height)
        try:
            image.load()
            upright = PIL.ImageOps.exif_transpose(image)
            plain = _in_plain_mode(upright)
        except MemoryError as error:
            raise PictureTooCostlyError from error
        except Exception as error:  # whatever a decoder stumbles over
            raise DamagedPictureError from error
    plain.info = {}
    return plain


def _opened(content: bytes, max_pixels: int) -> PIL.Image.Image:
    try:
        return PIL.Image.open(io.BytesIO(content), formats=_FORMATS)
    except PIL.UnidentifiedImageError as error:
        raise WrongFormatError from error
    except PIL.Image.DecompressionBombError as error:
        raise PictureTooLargeError(_too_large("far more", max_pixels)) from error
    except Exception as error:
        raise DamagedPictureError from error


def _check_header(image: PIL.Image.Image, max_pixels: int) -> None:
    """Everything that the header tells, so that nothing is decoded in vain."""
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise PictureTooLargeError(_too_large(f"{image.width}x{image.height}, {pixels}", max_pixels))
    # A phone's JPEG may hold a depth map or another view as a second picture; the first one is what it shows.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise AnimatedPictureError


def _too_large(pixels: str, max_pixels: int) -> str:
    return f"The picture has {pixels} pixels; at most {max_pixels} (width times height) are taken."


def _in_plain_mode(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in _HIGH_DEPTH:
        return image.point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
