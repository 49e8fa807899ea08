"""Picture files that cost the service more than they cost whoever sends them."""

from __future__ import annotations

import io

import PIL.Image

_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_RESTARTS = range(0xD0, 0xD8)
_STUFFED = 0x00


def repeated_scans(width: int, height: int, scans: int) -> bytes:
    """Make a progressive JPEG whose last scan is repeated: few bytes, and each scan passes over all coefficients.

    The segments are those of ITU-T T.81, Annex B (https://www.w3.org/Graphics/JPEG/itu-t81.pdf).

    Args:
        width: In pixels.
        height: In pixels.
        scans: How many the file has in the end; those of an ordinary file at least.
    """
    ordinary = _saved(PIL.Image.new("RGB", (width, height), (90, 120, 200)), "JPEG", progressive=True)
    found = _scans(ordinary)
    start, end = found[-1]
    return ordinary[:end] + ordinary[start:end] * (scans - len(found)) + ordinary[end:]


def count_scans(content: bytes) -> int:
    """Return how many scans a JPEG file has."""
    return len(_scans(content))


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


def _scans(content: bytes) -> list[tuple[int, int]]:
    """Return where each scan starts, with its header, and where its data ends."""
    found = []
    at = 2  # behind the start of the image
    while (marker := content[at + 1]) != _END_OF_IMAGE:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
        if marker == _START_OF_SCAN:
            end = _end_of_data(content, end)
            found.append((at, end))
        at = end
    return found


def _end_of_data(content: bytes, at: int) -> int:
    """Return where the next marker is that is not part of a scan's data."""
    while True:
        at = content.index(b"\xff", at)
        if content[at + 1] != _STUFFED and content[at + 1] not in _RESTARTS:
            return at
        at += 2
