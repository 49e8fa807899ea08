"""Picture files that cost the service more than they cost whoever sends them."""

from __future__ import annotations

import io

import PIL.Image


def large_picture(width: int, height: int) -> bytes:
    """Make an ordinary JPEG of this size in pixels, as a camera writes it."""
    rows = PIL.Image.effect_noise((width // 8, height // 8), 60).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return _saved(PIL.Image.merge("RGB", (rows, rows.transpose(PIL.Image.Transpose.ROTATE_180), rows)), "JPEG")


def small_picture(number: int) -> bytes:
    """Make a PNG of 64x64 pixels; each number has its own, so that the service keeps each of them."""
    colour = (number & 255, number >> 8 & 255, number >> 16 & 255)
    return _saved(PIL.Image.linear_gradient("L").resize((64, 64)).convert("RGB"), "PNG", colour)


def padded_picture(byte_count: int) -> bytes:
    """Make a PNG of 64x64 pixels that is followed by zeros, so many bytes in all."""
    return small_picture(0).ljust(byte_count, b"\0")


def _saved(picture: PIL.Image.Image, kind: str, corner: tuple[int, int, int] | None = None, **options: object) -> bytes:
    if corner is not None:
        picture.putpixel((0, 0), corner)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
