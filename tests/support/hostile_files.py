"""Files that clients might send as pictures: no pictures, broken ones, bombs, and some that are harmless after all."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image

MOST_PIXELS, MOST_BYTES = 10_000, 200_000
_NOISE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
_SMOOTH = PIL.Image.linear_gradient("L").resize((64, 48)).convert("RGB")
_ANIMATION: dict[str, Any] = {"save_all": True, "append_images": [_NOISE.transpose(PIL.Image.Transpose.ROTATE_180)]}
_SIDEWAYS = PIL.Image.Exif()
_SIDEWAYS[0x0112] = 6  # orientation: a camera that was held upright


def file_of(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file whose header says one thing and whose pixels are few."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        *(chunks or [(b"IDAT", zlib.compress(bytes(1000)))]),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def repeated_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: few bytes, and each scan costs a pass over all pixels.

    Args:
        width: In pixels.
        height: In pixels.
        scans: How many more of them.
    """
    plain = file_of(PIL.Image.new("RGB", (width, height), "gray"), "JPEG", progressive=True, quality=50)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:-2] + last * scans + plain[-2:]


def _zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


PNG, JPEG, WEBP = (file_of(_NOISE, kind) for kind in ("PNG", "JPEG", "WEBP"))
SIDEWAYS = file_of(_SMOOTH, "JPEG", exif=_SIDEWAYS, quality=95)
UPRIGHT = _SMOOTH.rotate(-90, expand=True)
SCRIPT = b"<script>alert(1)</script>"
# By what is wrong with each: the status that answers it.
REFUSED: dict[str, tuple[int, bytes]] = {
    "empty": (415, b""),
    "random bytes": (415, random.Random(0).randbytes(5000)),
    "text": (415, b"hello"),
    "a page": (415, b"<html>" + SCRIPT),
    "SVG": (415, b'<svg xmlns="http://www.w3.org/2000/svg">' + SCRIPT + b"</svg>"),
    "PDF": (415, b"%PDF-1.7\n1 0 obj\n<<>>\nendobj"),
    "ZIP": (415, _zipped("picture.png", PNG)),
    "GIF": (415, file_of(_NOISE, "GIF")),
    "TIFF": (415, file_of(_NOISE, "TIFF")),
    "BMP": (415, file_of(_NOISE, "BMP")),
    "AVIF": (415, file_of(_NOISE, "AVIF")),
    "animated GIF": (415, file_of(_NOISE, "GIF", **_ANIMATION)),
    "animated PNG": (400, file_of(_NOISE, "PNG", **_ANIMATION)),
    "animated WebP": (400, file_of(_NOISE, "WEBP", **_ANIMATION)),
    "truncated PNG": (400, PNG[: len(PNG) // 2]),
    "truncated JPEG": (400, JPEG[: len(JPEG) // 2]),
    "truncated WebP": (400, WEBP[: len(WEBP) // 2]),
    "first bytes of a PNG": (415, PNG[:8]),
    "PNG with no pixels": (400, png(64, 48, (b"IDAT", b""))),
    "PNG of no width": (415, png(0, 48)),
    "pixels that are not compressed": (400, png(64, 48, (b"IDAT", b"no zlib"))),
    "too many pixels": (413, png(101, 100)),
    "far too many pixels": (413, png(60_000, 60_000)),
    "a comment that unpacks without end": (
        400,
        png(64, 48, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))),
    ),
    # Each of these would keep a decoder busy for seconds to hours, were it larger.
    "a JPEG of a thousand scans": (400, repeated_scans(64, 48, 1000)),
    "a JPEG of many EXIF segments": (400, JPEG[:2] + b"\xff\xe1\x00\x08Exif\0\0" * 1_001 + JPEG[2:]),
    "a JPEG of many empty segments": (400, JPEG[:2] + b"\xff\xe5\x00\x02" * 1_001 + JPEG[2:]),
    "a JPEG of many segments after an end": (400, JPEG[:2] + b"\xff\xd9" + b"\xff\xec\x00\x02" * 1_001 + JPEG[2:]),
    "a JPEG of many fill bytes": (400, JPEG[:2] + b"\xff" * 11_000 + JPEG[2:]),
    "a JPEG of many restarts": (400, JPEG[:2] + b"\xff\xd0" * 11_000 + JPEG[2:]),
    "a JPEG of many escapes": (400, JPEG[:2] + b"\xff\x00" * 11_000 + JPEG[2:]),
    "a JPEG of nothing else than many fill bytes": (400, JPEG[:2] + b"\xff" * 199_000),
    "a PNG of many chunks": (400, PNG[:33] + _chunk(b"teXt", b"") * 10_001 + PNG[33:]),
    "a PNG of many profiles": (400, PNG[:33] + _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**19))) * 2 + PNG[33:]),
    "too many bytes": (413, PNG + bytes(MOST_BYTES)),
}
# More than a picture: what comes beside it must be gone from what is kept.
TAKEN: dict[str, bytes] = {
    "PNG": PNG,
    "JPEG": JPEG,
    "WebP": WEBP,
    "more pixels than its header says": png(64, 48, (b"IDAT", zlib.compress(bytes(50_000_000)))),
    "PNG and ZIP": PNG + _zipped("virus.js", SCRIPT),
    "PNG and page": PNG + SCRIPT,
    "JPEG of many scans": repeated_scans(64, 48, 80),
    # As a phone's "motion photo" has it: bytes of a film look like scans.
    "JPEG and what looks like scans": JPEG + b"\xff\xda" * 1000,
    "JPEG with a comment that looks like scans": file_of(_NOISE, "JPEG", comment=b"\xff\xda" * 1000),
    "JPEG with a page as its comment": file_of(_NOISE, "JPEG", comment=SCRIPT),
}


def damaged(number: int, seed: int) -> Iterator[bytes]:
    """Picture files with some bits turned over, cut off, or both.

    Args:
        number: How many.
        seed: Of chance.
    """
    chance = random.Random(seed)
    for _ in range(number):
        content = bytearray(chance.choice((PNG, JPEG, WEBP, SIDEWAYS)))
        for _ in range(chance.choice((0, 1, 3, 30))):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        yield bytes(content[: chance.choice((len(content), chance.randrange(len(content))))])
