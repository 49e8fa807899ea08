"""How often a JPEG file has its decoder go over the whole picture."""

from __future__ import annotations

import re

MOST_SCANS = 100
"""The usual progressive file has about ten; each one costs a pass over all pixels, however few bytes it has."""

_START = b"\xff\xd8"
# After any number of fill bytes. In compressed data, FF is followed by 00, or by a restart marker: D0 to D7.
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
_SCAN, _END, _WITHOUT_LENGTH = 0xDA, 0xD9, (0x01, 0xD8)


def scans_of(content: bytes, most: int = MOST_SCANS) -> int:
    """Count the scans of a JPEG file's first picture; 0 for a file of another format.

    The markers are those of ITU-T T.81, section B.1.1.3. What follows the end of the picture does not count: a second
    picture, or the film of a phone's "motion photo".

    Args:
        content: The file.
        most: More than one above this number are not counted.
    """
    if not content.startswith(_START):
        return 0
    scans, place = 0, len(_START)
    while scans <= most and (found := _MARKER.search(content, place)) is not None:
        marker, place = found[1][0], found.end()
        if marker == _END:
            break
        if marker in _WITHOUT_LENGTH:
            continue
        place += max(2, int.from_bytes(content[place : place + 2], "big"))
        scans += marker == _SCAN
    return scans
