"""Picture files at the limits of an upload: honest ones, and hostile ones that cost far more than usual.

Each is a function that makes the file, as the files of all together would not fit into memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import PIL.Image

from deployments.storage.metadata.exif_and_xmp import xmp_of
from tests.support.hostile_files import file_of, repeated_scans
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
from tests.support.picture_corpus.seeds import exif_block

Maker = Callable[[], bytes]
PIXELS, BYTES = 2**25, 20 * 2**20
SIZE = WIDTH, HEIGHT = 8192, 4096
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_SMALL = PIL.Image.new("RGB", (64, 64), "teal")


def photo(noise: float = 6.0) -> PIL.Image.Image:
    """Something like a photo: shapes of every scale, and noise.

    Args:
        noise: Standard deviation, in steps of 8 bits. The more of it, the larger the file.
    """
    chance = np.random.default_rng(0)
    total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for scale in (512, 64, 8):
        coarse = chance.normal(128, 45, (HEIGHT // scale + 1, WIDTH // scale + 1, 3)).clip(0, 255).astype(np.uint8)
        total += np.asarray(PIL.Image.fromarray(coarse).resize(SIZE, PIL.Image.Resampling.BICUBIC), np.float32) - 128
    total += chance.normal(128, noise, total.shape).astype(np.float32)
    return PIL.Image.fromarray(total.clip(0, 255).astype(np.uint8))


def _photo_file(kind: str, noise: float = 6.0, mode: str = "RGB", **options: object) -> bytes:
    picture = photo(noise).convert(mode)
    if mode == "RGBA":
        picture.putalpha(PIL.Image.linear_gradient("L").resize(SIZE))
    return file_of(picture, kind, **options)


def _colour_file(kind: str, mode: str = "RGB", size: tuple[int, int] = SIZE, **options: object) -> bytes:
    return file_of(PIL.Image.new(mode, size), kind, **options)


def _palette() -> bytes:
    small = photo(2).quantize(256, dither=PIL.Image.Dither.NONE)
    return file_of(small, "PNG", transparency=0, compress_level=4)


def _grid(depth: int, colour: int, interlaced: bool = False, noisy: bool = True, size: tuple[int, int] = SIZE) -> bytes:
    """A PNG of any kind; each row has the filter that takes longest, Paeth."""
    share = BYTES * 4 / (PIXELS * _SAMPLES[colour] * depth)
    chance, packer, packed = np.random.default_rng(0), zlib.compressobj(1), []
    for number, length in png_row_sizes(size, depth, colour, interlaced):
        rows = np.zeros((number, length + 1), np.uint8)
        if noisy:
            rows[:] = np.where(chance.random(rows.shape) < share, chance.integers(0, 16, rows.shape, np.uint8), 0)
        rows[:, 0] = 4
        packed.append(packer.compress(rows.tobytes()))
    palette = [(b"PLTE", bytes(3 * 2**depth)), (b"tRNS", bytes(2**depth))] if colour == 3 else []
    data = b"".join([*packed, packer.flush()])
    return png_of([png_header(size, depth, colour, interlaced), *palette, (b"IDAT", data), (b"IEND", b"")])


HONEST: dict[str, Maker] = {
    "JPEG": partial(_photo_file, "JPEG", quality=85),
    "JPEG, 4:4:4": partial(_photo_file, "JPEG", 3, quality=90, subsampling=0),
    "JPEG, progressive": partial(_photo_file, "JPEG", quality=85, progressive=True),
    "JPEG, progressive, 4:4:4": partial(_photo_file, "JPEG", 3, quality=90, subsampling=0, progressive=True),
    "JPEG, progressive, CMYK": partial(_photo_file, "JPEG", 2, "CMYK", quality=80, progressive=True),
    "JPEG, progressive, turned": lambda: _photo_file("JPEG", progressive=True, exif=b"Exif\0\0" + exif_block()),
    "WebP, lossy": partial(_photo_file, "WEBP", quality=85, method=0),
    "WebP, lossy, alpha": partial(_photo_file, "WEBP", 2, "RGBA", quality=50, method=0),
    "WebP, lossless": partial(_photo_file, "WEBP", 0.6, lossless=True, method=0, quality=0),
    "PNG, RGB": partial(_photo_file, "PNG", 0.5, compress_level=4),
    "PNG, RGBA": partial(_photo_file, "PNG", 0.3, "RGBA", compress_level=4),
    "PNG, gray of 16 bits": partial(_grid, 16, 0),
    "PNG, RGB of 16 bits, interlaced": partial(_grid, 16, 2, interlaced=True),
    "PNG, palette with transparency": _palette,
    "AVIF": partial(_photo_file, "AVIF", quality=75, speed=10),
    "AVIF, 4:4:4, alpha": partial(_photo_file, "AVIF", 2, "RGBA", quality=75, speed=10, subsampling="4:4:4"),
}


def _png_with(before: Iterable[Part] = (), after: Iterable[Part] = ()) -> bytes:
    header, pixels, end = png_chunks(file_of(_SMALL, "PNG"))
    return png_of([header, *before, pixels, *after, end])


def _jpeg_with(parts: Iterable[Part]) -> bytes:
    first, *others = jpeg_segments(file_of(_SMALL, "JPEG"))
    return jpeg_of([first, *parts, *others])


def _webp_with(name: bytes, data: bytes) -> bytes:
    flag = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}.get(name, 0)
    head = b"VP8X", bytes((flag, 0, 0, 0, 63, 0, 0, 63, 0, 0))
    pixels = riff_chunks(file_of(_SMALL, "WEBP"))
    return riff_of([head, (name, data), *pixels] if name == b"ICCP" else [head, *pixels, (name, data)])


def _arithmetic(scans: int, code: bytes, components: int = 1) -> bytes:
    """A progressive JPEG of arithmetic codes: to its decoder any bytes are codes, and none are zeros without end."""
    sampling = b"".join(bytes((each, 0x11, 0)) for each in range(1, components + 1))
    parts = [
        segment(0xDB, bytes(1) + bytes([1] * 64)),
        segment(0xCA, struct.pack(">BHHB", 8, HEIGHT, WIDTH, components) + sampling),
        segment(0xDA, bytes([components]) + b"".join(bytes((each, 0)) for each in range(1, components + 1)) + bytes(3)),
    ]
    for number in range(scans - 1):
        head, band = segment(0xDA, bytes((1, 1 + number % components, 0, 1, 63, 0)))
        parts.append((head, band + code))
    return jpeg_of([*parts, (b"\xff\xd9", b"")])


def _exif_of(entries: int, size: int) -> bytes:
    """An EXIF block with that many entries of that many bytes."""
    start = 8 + 2 + 12 * entries + 4
    fields = b"".join(struct.pack("<HHII", each, 7, size, start + each * size) for each in range(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + fields + bytes(4 + entries * size)


def _in_pieces(content: bytes) -> list[Part]:
    return [segment(0xE1, b"Exif\0\0" + content[start : start + 65_000]) for start in range(0, len(content), 65_000)]


def _many_pictures(number: int) -> bytes:
    entries = bytes(16 * min(number, 4000))
    index = struct.pack("<HHI4sHHIIHHIII", 0xB000, 7, 4, b"0100", 0xB001, 4, 1, number, 0xB002, 7, len(entries), 50, 0)
    return _jpeg_with([segment(0xE2, b"MPF\0II*\0\x08\0\0\0\3\0" + index + entries)])


def _bomb(head: bytes) -> bytes:
    return head + zlib.compress(bytes(2**20 - 1), 9)


def _scattered() -> bytes:
    rows = np.random.default_rng(0).integers(0, 255, (400, 3001), np.uint8)
    rows[:, 0] = 0
    pixels = [(b"IDAT", bytes([each])) for each in zlib.compress(rows.tobytes(), 0)]
    return png_of([png_header((1000, 400), 8, 2), *pixels, (b"IEND", b"")])


def _xmp(content: str) -> bytes:
    return _webp_with(b"XMP ", xmp_of("{}").replace(b"</x:xmpmeta>", content.encode() + b"</x:xmpmeta>"))


HOSTILE: dict[str, Maker] = {
    "JPEG, 95 scans, of one colour": partial(repeated_scans, *SIZE, 85),
    "JPEG, 1,000 scans, of one colour": partial(repeated_scans, *SIZE, 990),
    "JPEG, arithmetic codes, 100 scans of one byte": partial(_arithmetic, 100, b"\x37"),
    "JPEG, arithmetic codes, 100 scans of 1,000 bytes": partial(_arithmetic, 100, b"\x55" * 1000, components=3),
    "JPEG, 5 million segments": lambda: _jpeg_with([segment(0xEC, b"")] * (BYTES // 4 - 1000)),
    "JPEG, 2 million segments after an end": lambda: _jpeg_with(
        [(b"\xff\xd9", b""), *[segment(0xEC, b"")] * 2_000_000]
    ),
    "JPEG, 10 million restart markers in its header": lambda: _jpeg_with([(b"\xff\xd0" * 10_000_000, b"")]),
    "JPEG, 20 MB of FF": lambda: _jpeg_with([(b"\xff" * (BYTES - 10_000), b"")]),
    "JPEG, 20 MB of FF to its end": lambda: b"\xff\xd8" + b"\xff" * (BYTES - 10_000),
    "JPEG, 20 MB of FF 00 in its header": lambda: _jpeg_with([(b"\xff\0" * (BYTES // 2 - 10_000), b"")]),
    "JPEG, 20 MB of zeros in its header": lambda: _jpeg_with([(bytes(BYTES - 10_000), b"")]),
    "JPEG, EXIF of 18 MB": lambda: _jpeg_with(_in_pieces(_exif_of(60_000, 300))),
    "JPEG, EXIF in a million segments": lambda: _jpeg_with([*_in_pieces(bytes(65_000)), *_in_pieces(b"x") * 1_000_000]),
    "JPEG, EXIF of 10 MB, and 9,000 segments": lambda: _jpeg_with(
        [*_in_pieces(bytes(10**7)), *_in_pieces(b"x") * 9000]
    ),
    "JPEG, ICC profile in 900,000 pieces": lambda: _jpeg_with([segment(0xE2, b"ICC_PROFILE\0\1\1ab")] * (BYTES // 22)),
    "JPEG, 1.7 million Photoshop resources": lambda: _jpeg_with(
        [segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5400)] * 320
    ),
    "MPO of 30,000 pictures": partial(_many_pictures, 30_000),
    "PNG, 1 bit": partial(_grid, 1, 0, noisy=False),
    "PNG, palette of 1 bit": partial(_grid, 1, 3, noisy=False),
    "PNG, one row": partial(_grid, 8, 2, noisy=False, size=(PIXELS, 1)),
    "PNG, one column": partial(_grid, 8, 2, noisy=False, size=(1, PIXELS)),
    "PNG, RGBA of 16 bits, interlaced": partial(_grid, 16, 6, interlaced=True),
    "PNG, 1.7 million chunks before the pixels": lambda: _png_with([(b"abCd", b"")] * 1_700_000),
    "PNG, 1.7 million chunks after the pixels": lambda: _png_with(after=[(b"abCd", b"")] * 1_700_000),
    "PNG, 1.7 million empty IDAT": lambda: _png_with([(b"IDAT", b"")] * 1_700_000),
    "PNG, 1.2 million IDAT of a byte": _scattered,
    "PNG, 1.3 million texts": lambda: _png_with([(b"tEXt", b"a\0b")] * 1_300_000),
    "PNG, texts that unpack to 63 MB": lambda: _png_with([(b"zTXt", _bomb(b"%d\0\0" % each)) for each in range(63)]),
    "PNG, 10,000 colour profiles that unpack": lambda: _png_with([(b"iCCP", _bomb(b"a\0\0"))] * 10_000),
    "PNG, EXIF of 20 MB": lambda: _png_with([(b"eXIf", _exif_of(65_535, 300))]),
    "PNG, metadata of a million lists": lambda: _png_with([(b"tEXt", b"cyberimage\0" + b"[" * 1_000_000)]),
    "WebP, ICC profile of 20 MB": lambda: _webp_with(b"ICCP", bytes(BYTES - 10_000)),
    "WebP, EXIF of 20 MB": lambda: _webp_with(b"EXIF", _exif_of(65_535, 300)),
    "WebP, lossless, of one colour": partial(_colour_file, "WEBP", lossless=True, method=0),
    "WebP, XMP of 2 million depths": lambda: _xmp("<a>" * 2_000_000 + "</a>" * 2_000_000),
    "WebP, XMP of a million attributes": lambda: _xmp(
        "<a " + " ".join(f"b{each}=''" for each in range(1_000_000)) + "/>"
    ),
    "WebP, XMP of 4 million elements": lambda: _xmp("<a/>" * 4_000_000),
    "AVIF of one colour": partial(_colour_file, "AVIF", speed=10),
    "AVIF of 178 million pixels": partial(_colour_file, "AVIF", "L", (16_384, 10_900), speed=10),
}
