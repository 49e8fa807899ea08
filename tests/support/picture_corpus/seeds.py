"""Small files of every format and kind that a decoder of pictures may meet, all of them whole."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms

from deployments.storage.formats import FORMATS
from deployments.storage.metadata.image_file import encode_image
from tests.support.picture_corpus.containers import (
    Part,
    jpeg_of,
    jpeg_segments,
    png_chunks,
    png_header,
    png_of,
    png_row_sizes,
    riff_chunks,
    riff_of,
    segment,
)

SIZE = WIDTH, HEIGHT = 40, 24
_NOISE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 4), dtype=np.uint8))
_PHOTO = PIL.Image.linear_gradient("L").resize(SIZE).convert("RGB")
_MORE = {"save_all": True, "append_images": [_PHOTO.rotate(180), _PHOTO.transpose(PIL.Image.Transpose.FLIP_TOP_BOTTOM)]}
_PROFILE = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:t="urn:cyberimage:metadata:1"><a><b t:json="{}" '
    b'tiff:Orientation="6" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"/></a></x:xmpmeta>'
)
_METADATA = {"prompt": "a castle", "negative_prompt": "fog", "model_id": "shapes", "settings": {"seed": 1}}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def file_of(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@cache
def seeds() -> dict[str, bytes]:
    """All of them, by what they are; of AVIF only where Pillow can write it."""
    found = {**dict(_pngs()), **dict(_jpegs()), **dict(_webps()), **dict(_others())}
    if FORMATS["avif"].is_available:
        found |= dict(_avifs())
    return found


def exif_block(orientation: int = 6, order: str = "<", thumbnail: bytes = b"") -> bytes:
    """An EXIF block, without the name before it: a few entries, one of Exif's own directory, and a thumbnail.

    Args:
        orientation: 1 to 8.
        order: Of bytes: ``<`` or ``>``.
        thumbnail: A JPEG file.
    """
    second, third, comment = 8 + 2 + 3 * 12 + 4, 8 + 2 + 3 * 12 + 4 + 18, b"ASCII\0\0\0a castle"
    last = third + 2 + 2 * 12 + 4
    entry = struct.Struct(f"{order}HHII")
    return b"".join((
        (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8),
        struct.pack(f"{order}H", 3),
        struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0),
        entry.pack(0x010F, 2, 4, int.from_bytes(b"abc\0", "little")),
        entry.pack(0x8769, 4, 1, second),
        struct.pack(f"{order}I", third),
        struct.pack(f"{order}H", 1),
        entry.pack(0x9286, 7, len(comment), last),
        bytes(4),
        struct.pack(f"{order}H", 2),
        entry.pack(0x0201, 4, 1, last + len(comment)),
        entry.pack(0x0202, 4, 1, len(thumbnail)),
        bytes(4),
        comment,
        thumbnail,
    ))  # fmt: skip


def _pngs() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(1)
    for colour, interlaced in product(_DEPTHS, (False, True)):
        for depth in _DEPTHS[colour]:
            rows = b"".join(
                bytes([chance.randrange(5)]) + chance.randbytes(size)
                for number, size in png_row_sizes(SIZE, depth, colour, interlaced)
                for _ in range(number)
            )
            palette = [(b"PLTE", chance.randbytes(3 * 2**depth)), (b"tRNS", bytes(range(2)))] if colour == 3 else []
            parts = [
                png_header(SIZE, depth, colour, interlaced),
                *palette,
                (b"IDAT", zlib.compress(rows)),
                (b"IEND", b""),
            ]
            yield f"png-{colour}-{depth}-{'interlaced' if interlaced else 'plain'}", png_of(parts)
    first, *others = png_chunks(file_of(_PHOTO, "PNG"))
    packed = zlib.compress
    beside: dict[str, list[Part]] = {
        "iccp": [(b"iCCP", b"sRGB\0\0" + packed(_PROFILE))],
        "exif": [(b"eXIf", exif_block(order=">"))],
        "texts": [
            (b"tEXt", b"parameters\0a castle\nSteps: 4"),
            (b"zTXt", b"parameters\0\0" + packed(b"a castle" * 99)),
            (b"iTXt", b"cyberimage\0\0\0\0\0{}"),
            (b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0\0" + packed(_XMP)),
        ],
        "raw-profile": [
            (b"zTXt", b"Raw profile type exif\0\0" + packed(b"\nexif\n 99\n" + exif_block().hex().encode()))
        ],
        "colours": [
            (b"gAMA", struct.pack(">I", 45455)), (b"cHRM", bytes(32)), (b"sRGB", b"\0"), (b"sBIT", b"\5\6\5"),
            (b"bKGD", bytes(6)), (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)), (b"tIME", bytes(7)),
        ],
        "transparent": [(b"tRNS", bytes(6))],
        "huge-chunk": [(b"abCd", bytes(50_000))],
    }  # fmt: skip
    for name, extra in beside.items():
        yield f"png-{name}", png_of([first, *extra, *others])
    yield "png-cut-idat", png_of([first, *((b"IDAT", bytes([each])) for each in others[0][1]), others[-1]])
    yield "png-animation", file_of(_PHOTO, "PNG", **_MORE)
    yield "png-ours", encode_image(_PHOTO, _METADATA)


def _jpegs() -> Iterator[tuple[str, bytes]]:
    colour = _NOISE.convert("RGB")
    for progressive, subsampling in product((False, True), ("4:4:4", "4:2:2", "4:2:0", "4:1:1")):
        options = {"progressive": progressive, "subsampling": subsampling, "quality": 85}
        yield f"jpeg-{'progressive' if progressive else 'baseline'}-{subsampling}", file_of(colour, "JPEG", **options)
    yield "jpeg-gray", file_of(colour.convert("L"), "JPEG")
    yield "jpeg-rgb", file_of(colour, "JPEG", keep_rgb=True)
    cmyk = file_of(colour.convert("CMYK"), "JPEG", progressive=True)
    yield "jpeg-cmyk", cmyk
    yield "jpeg-ycck", cmyk.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2")
    yield "jpeg-restarts", file_of(colour, "JPEG", restart_marker_blocks=2)
    yield "jpeg-optimized", file_of(colour, "JPEG", optimize=True, dpi=(300, 300), comment=b"at home")
    yield "jpeg-exif", file_of(_PHOTO, "JPEG", exif=b"Exif\0\0" + exif_block(thumbnail=file_of(_PHOTO, "JPEG")))
    yield "jpeg-mpo", file_of(_PHOTO, "MPO", **_MORE)
    yield "jpeg-ours", encode_image(_PHOTO, _METADATA, FORMATS["jpeg"])
    parts = jpeg_segments(file_of(_PHOTO, "JPEG"))
    pieces = [_PROFILE[start : start + 100] for start in range(0, len(_PROFILE), 100)]
    profile = [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(pieces)]) + each) for number, each in enumerate(pieces, 1)
    ]
    yield "jpeg-icc", jpeg_of([parts[0], *profile, *parts[1:]])
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _XMP)
    photoshop = segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10" + bytes(16) + b"8BIM\x04\4\0\0\0\0\0\0")
    yield "jpeg-xmp", jpeg_of([parts[0], xmp, photoshop, *parts[1:]])
    deep = [
        segment(0xDB, bytes([0x10 | each[1][0]]) + each[1][1:].hex().encode())
        if each[0][1] == 0xDB and len(each[1]) == 65
        else each
        for each in parts
    ]
    yield "jpeg-16-bit-tables", jpeg_of(deep)
    scans = jpeg_segments(file_of(colour, "JPEG", progressive=True))
    yield "jpeg-scans", jpeg_of([*scans[:-1], *[scans[-2]] * 20, scans[-1]])
    for marker, name in (
        (0xC9, "arithmetic"),
        (0xCA, "arithmetic-progressive"),
        (0xC1, "extended"),
        (0xC3, "lossless"),
    ):
        yield f"jpeg-{name}", jpeg_of(_other_codes(marker))


def _other_codes(marker: int) -> list[Part]:
    """A JPEG of another process: to an arithmetic decoder, any bytes are codes."""
    chance = random.Random(marker)
    codes = chance.randbytes(60).replace(b"\xff", b"")
    frame = struct.pack(">BHHB", 8, HEIGHT, WIDTH, 3) + bytes((1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0))
    every = bytes((3, 1, 0, 2, 0, 3, 0))
    tables = [each for each in jpeg_segments(file_of(_PHOTO, "JPEG")) if each[0][1] in (0xDB, 0xC4)]
    parts = [*tables, segment(marker, frame)]
    if marker != 0xCA:
        head, chosen = segment(0xDA, every + (b"\1\0\0" if marker == 0xC3 else b"\0\x3f\0"))
        return [*parts, (head, chosen + codes), (b"\xff\xd9", b"")]
    for band in (every + b"\0\0\1", *(bytes((1, each, 0, 1, 63, bits)) for bits in (1, 0x10) for each in (1, 2, 3))):
        head, chosen = segment(0xDA, band)
        parts.append((head, chosen + codes))
    return [*parts, (b"\xff\xd9", b"")]


def _webps() -> Iterator[tuple[str, bytes]]:
    for name, picture in (("photo", _PHOTO), ("noise", _NOISE), ("palette", _NOISE.quantize(7).convert("RGBA"))):
        yield f"webp-lossy-{name}", file_of(picture, "WEBP", quality=60)
        yield f"webp-lossless-{name}", file_of(picture, "WEBP", lossless=True, exact=True)
    everything = {"exif": exif_block(), "xmp": _XMP, "icc_profile": _PROFILE}
    yield "webp-beside", file_of(_NOISE, "WEBP", **everything)
    yield "webp-animation", file_of(_PHOTO, "WEBP", duration=50, lossless=True, **_MORE)
    yield "webp-ours", encode_image(_PHOTO, _METADATA, FORMATS["webp"])
    head, *others = riff_chunks(file_of(_NOISE, "WEBP", **everything))
    yield "webp-chunks", riff_of([head, *others, *[(b"JUNK", bytes(9)), others[-1]] * 50])


def _avifs() -> Iterator[tuple[str, bytes]]:
    yield "avif-still", file_of(_PHOTO, "AVIF", speed=10)
    yield "avif-alpha", file_of(_NOISE, "AVIF", speed=10, subsampling="4:4:4", exif=exif_block(), icc_profile=_PROFILE)
    yield "avif-sequence", file_of(_PHOTO, "AVIF", speed=10, **_MORE)
    yield "avif-gray", file_of(_PHOTO.convert("L"), "AVIF", speed=10, quality=100)
    yield "avif-ours", encode_image(_PHOTO, _METADATA, FORMATS["avif"])


def _others() -> Iterator[tuple[str, bytes]]:
    for kind in ("GIF", "TIFF", "BMP", "ICO", "JPEG2000", "PPM", "TGA", "PCX", "ICNS", "SGI", "DDS", "PDF"):
        yield f"other-{kind.lower()}", file_of(_PHOTO.resize((32, 32)) if kind == "ICNS" else _PHOTO, kind)
    yield "other-gif-animation", file_of(_PHOTO, "GIF", **_MORE)
    yield (
        "other-psd",
        b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, HEIGHT, WIDTH, 8, 3) + bytes(2 * WIDTH * HEIGHT),
    )
    yield "other-svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    yield "other-html", b"<!DOCTYPE html><script>alert(1)</script>"
    yield "other-eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 24\nshowpage\n"
    yield "other-nothing", b""
