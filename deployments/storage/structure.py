"""What is in a picture's file besides pixels: decoders go through all of it, one part after the other."""

from __future__ import annotations

import re
import struct

MOST_SCANS = 100
"""Of a JPEG file: the usual progressive one has about ten. Each costs a pass over all pixels, however few its bytes."""
_MOST_SEGMENTS = 1_000  # of a JPEG file: a colour profile has at most 255, and 20 MiB hold some 300 of the largest
_MOST_CHUNKS = 10_000  # of a PNG file: many programs write pixels in chunks of 8 KiB
_MOST_STRAY_BYTES = 10_000  # before the first scan of a JPEG file

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
# In compressed data, FF is followed by 00, or by a restart marker: D0 to D7. Before a marker, FF may be repeated.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_SCAN, _END, _START, _LAST_WITHOUT_LENGTH = 0xDA, 0xD9, 0xD8, 0xBF
_CHUNK = struct.Struct(">I4s")
_CHECKSUM_BYTES = 4


def excess_of(content: bytes) -> str | None:
    """Say what a picture's file has too much of; None for a usual file, and for one of another format.

    Args:
        content: The file.

    Returns:
        As "a JPEG file of more than 100 scans".
    """
    if content.startswith(_JPEG):
        return _excess_of_jpeg(content)
    if content.startswith(_PNG):
        return _excess_of_png(content)
    return None


def _excess_of_jpeg(content: bytes) -> str | None:
    """Count up to the end of the first picture: another one, or the film of a phone's "motion photo", may follow.

    The markers are those of ITU-T T.81, section B.1.1.3.
    """
    scans, segments, stray_bytes, place = 0, 0, 0, len(_JPEG)
    while (found := _MARKER.search(content, place)) is not None:
        if not scans:
            stray_bytes += found.start() - place
        marker, place = found[1][0], found.end()
        segments += 1
        scans += marker == _SCAN
        if scans > MOST_SCANS:
            return f"a JPEG file of more than {MOST_SCANS} scans"
        if segments > _MOST_SEGMENTS:
            return f"a JPEG file of more than {_MOST_SEGMENTS} segments"
        if stray_bytes > _MOST_STRAY_BYTES:
            return f"a JPEG file of more than {_MOST_STRAY_BYTES} bytes between segments"
        if marker == _END and scans:  # decoders go on after one that comes before the picture
            return None
        if marker > _LAST_WITHOUT_LENGTH and marker not in (_START, _END):
            place += max(2, int.from_bytes(content[place : place + 2], "big"))
    is_all_stray = not scans and len(content) - place > _MOST_STRAY_BYTES
    return f"a JPEG file of more than {_MOST_STRAY_BYTES} bytes between segments" if is_all_stray else None


def _excess_of_png(content: bytes) -> str | None:
    parts, profiles, place = 0, 0, len(_PNG)
    while place + _CHUNK.size <= len(content):
        length, name = _CHUNK.unpack_from(content, place)
        parts += 1
        profiles += name == b"iCCP"
        if parts > _MOST_CHUNKS:
            return f"a PNG file of more than {_MOST_CHUNKS} chunks"
        if profiles > 1:  # the specification allows no second one, and each may unpack to a megabyte
            return "a PNG file of more than one colour profile"
        if name == b"IEND":
            break
        place += _CHUNK.size + length + _CHECKSUM_BYTES
    return None
