"""The parts of picture files, taken apart and put together: PNG chunks, JPEG segments, RIFF chunks, ISO boxes."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# PNG specification, "Interlacing and pass extraction": first column, first row, steps between columns and rows.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_START_OF_SCAN, _END = 0xDA, 0xD9

Part = tuple[bytes, bytes]


def png_of(chunks: Iterable[Part]) -> bytes:
    """A PNG file with these chunks; their checksums are right.

    Args:
        chunks: Name and content of each.
    """
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def png_chunks(content: bytes) -> list[Part]:
    """The chunks of a PNG file, whatever their checksums are."""
    parts, position = [], len(PNG_SIGNATURE)
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        parts.append((content[position + 4 : position + 8], content[position + 8 : position + 8 + length]))
        position += 12 + length
    return parts


def png_header(size: tuple[int, int], depth: int, colour: int, interlaced: bool = False) -> Part:
    """The chunk IHDR.

    Args:
        size: Width and height in pixels.
        depth: Bits of a sample.
        colour: PNG's own number: 0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGBA.
        interlaced: Whether in Adam7's seven passes.
    """
    return b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)


def png_row_sizes(size: tuple[int, int], depth: int, colour: int, interlaced: bool = False) -> list[tuple[int, int]]:
    """The number of rows of each pass, and their bytes without the filter's own; arguments as of ``png_header``."""
    width, height = size
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    counts = [(-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes]
    return [(rows, -(-columns * _CHANNELS[colour] * depth // 8)) for columns, rows in counts if columns > 0 < rows]


def jpeg_of(segments: Iterable[Part]) -> bytes:
    """A JPEG file with these segments.

    Args:
        segments: The marker's two bytes, with the length where it has one, and what follows up to the next marker.
    """
    return b"\xff\xd8" + b"".join(head + content for head, content in segments)


def segment(marker: int, content: bytes) -> Part:
    """A segment with its length.

    Args:
        marker: Its second byte: 0xE1 of APP1.
        content: Up to 65,533 bytes.
    """
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2), content


def jpeg_segments(content: bytes) -> list[Part]:
    """The segments of a JPEG file that is well formed; the codes of a scan belong to the scan's own segment."""
    parts, position = [], 2
    while position + 4 <= len(content) and content[position + 1] != _END:
        end = position + 2 + int(struct.unpack_from(">H", content, position + 2)[0])
        if content[position + 1] == _START_OF_SCAN:
            found = _MARKER.search(content, end)
            end = found.start() if found else len(content)
        parts.append((content[position : position + 4], content[position + 4 : end]))
        position = end
    return [*parts, (content[position:], b"")]


def riff_of(chunks: Iterable[Part]) -> bytes:
    """A WebP file with these chunks."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def riff_chunks(content: bytes) -> list[Part]:
    """The chunks of a WebP file."""
    parts, position = [], 12
    while position + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, position + 4)
        parts.append((content[position : position + 4], content[position + 8 : position + 8 + length]))
        position += 8 + length + length % 2
    return parts


def boxes_of(boxes: Iterable[Part]) -> bytes:
    """A file of ISO boxes, or what is in one."""
    return b"".join(struct.pack(">I", len(content) + 8) + name + content for name, content in boxes)


def boxes_in(content: bytes) -> list[Part]:
    """The boxes of an ISO file, such as AVIF; those within them stay as they are."""
    parts, position = [], 0
    while position + 8 <= len(content):
        length = max(int(struct.unpack_from(">I", content, position)[0]), 8)
        parts.append((content[position + 4 : position + 8], content[position + 8 : position + length]))
        position += length
    return parts
