"""Pictures at the limits of an upload, honest ones and hostile ones: what each costs a decoder.

    python -m benchmarks.picture_extremes [WORD ...]

Each is made and decoded in a process of its own: the CPU seconds and the peak memory of ``decode_picture`` (of
``opened_image`` for AVIF), and of what follows it, ``encode_png``. The limits of the processes that decode for clients
follow from the honest ones.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import resource
import struct
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from deployments.storage.metadata.image_file import opened_image, read_metadata, read_parameters
from deployments.storage.metadata.png import encode_png
from deployments.storage.picture import decode_picture
from deployments.storage.thumbnails import encode_thumbnail

PIXELS, BYTES = 2**25, 20 * 2**20
SIZE = WIDTH, HEIGHT = 8192, 4096
SMALL = PIL.Image.new("RGB", (64, 64), "teal")
Maker = Callable[[], bytes]
HONEST: dict[str, Maker] = {}
HOSTILE: dict[str, Maker] = {}


def main() -> None:
    """Measure those whose name holds one of the words, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    warnings.simplefilter("ignore")
    print(
        "| picture | file kB | decode CPU s | peak MB | outcome | encode CPU s | peak MB | metadata CPU s | peak MB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind, makers in (("honest", HONEST), ("hostile", HOSTILE)):
        for name, make in makers.items():
            if not words or any(word in f"{kind}: {name}" for word in words):
                _apart(f"{kind}: {name}", make)


def _apart(name: str, make: Maker) -> None:
    """Make the file in one process and decode it in another, so that the one's memory is not counted as the other's."""
    path = Path(f"/tmp/picture-extreme-{os.getpid()}")
    try:
        _in_child(lambda: path.write_bytes(make()))
        _in_child(lambda: print(_measured(name, path.read_bytes()), flush=True))
    finally:
        path.unlink(missing_ok=True)


def _in_child(work: Callable[[], object]) -> None:
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        if status:
            print(f"ended with {os.waitstatus_to_exitcode(status)}", flush=True)
        return
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _measured(name: str, content: bytes) -> str:
    is_avif = content[4:8] == b"ftyp"
    outcome: list[Any] = []

    def decode() -> None:
        if not is_avif:
            outcome.append(decode_picture(content, PIXELS))
            return
        with opened_image(content) as image:
            encode_thumbnail(image, 512)
            outcome.append(image.convert("RGB"))

    def read() -> None:
        read_metadata(content)
        read_parameters(content)

    spent = cost_of(decode)
    result, after = spent[2], (0.0, 0.0, "")
    if outcome:
        result = f"{outcome[0].mode} {outcome[0].width}x{outcome[0].height}"
        after = cost_of(lambda: encode_png(outcome[0], {}))
    outcome.clear()
    metadata = cost_of(read)
    return (
        f"| {name} | {len(content) // 1024} | {spent[0]:.2f} | {spent[1]:.0f} | {result} | {after[0]:.2f} "
        f"| {after[1]:.0f} | {metadata[0]:.2f} | {metadata[1]:.0f} |"
    )


def cost_of(work: Callable[[], object]) -> tuple[float, float, str]:
    """CPU seconds, megabytes above what the process held before, and the error's name; empty where there was none."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now
    before, error = _resident("VmRSS"), ""
    used = resource.getrusage(resource.RUSAGE_SELF)
    try:
        work()
    except Exception as found:
        error = type(found).__name__
    now = resource.getrusage(resource.RUSAGE_SELF)
    seconds = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return seconds, _resident("VmHWM") - before, error


def _resident(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def photo(size: tuple[int, int] = SIZE, noise: float = 6.0, channels: int = 3) -> PIL.Image.Image:
    """Something like a photo: shapes of every scale, and noise."""
    chance = np.random.default_rng(0)
    width, height = size
    total = np.zeros((height, width, channels), np.float32)
    for scale in (512, 64, 8):
        coarse = chance.normal(0, 45, (height // scale + 1, width // scale + 1, channels)).clip(-128, 127) + 128
        large = PIL.Image.fromarray(coarse.astype(np.uint8)).resize(size, PIL.Image.Resampling.BICUBIC)
        total += np.asarray(large, np.float32) - 128
    total += chance.normal(128, noise, total.shape).astype(np.float32)
    return PIL.Image.fromarray(total.clip(0, 255).astype(np.uint8))


def file_of(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _honest(name: str) -> Callable[[Maker], Maker]:
    def add(make: Maker) -> Maker:
        HONEST[name] = make
        return make

    return add


def _hostile(name: str) -> Callable[[Maker], Maker]:
    def add(make: Maker) -> Maker:
        HOSTILE[name] = make
        return make

    return add


HONEST |= {
    "JPEG, quality 85": lambda: file_of(photo(), "JPEG", quality=85),
    "JPEG, quality 90, 4:4:4": lambda: file_of(photo(noise=3), "JPEG", quality=90, subsampling=0),
    "JPEG, progressive, quality 85": lambda: file_of(photo(), "JPEG", quality=85, progressive=True),
    "JPEG, progressive, quality 90, 4:4:4": lambda: file_of(
        photo(noise=3), "JPEG", quality=90, subsampling=0, progressive=True
    ),
    "JPEG, progressive, CMYK": lambda: file_of(photo(noise=2).convert("CMYK"), "JPEG", quality=80, progressive=True),
    "JPEG, progressive, turned": lambda: file_of(
        photo(),
        "JPEG",
        quality=85,
        progressive=True,
        exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
    ),
    "WebP, lossy": lambda: file_of(photo(), "WEBP", quality=85, method=0),
    "WebP, lossy, alpha": lambda: file_of(_with_alpha(photo()), "WEBP", quality=85, method=0),
    "WebP, lossless": lambda: file_of(photo(noise=0.6), "WEBP", lossless=True, method=0, quality=0),
    "PNG, RGB": lambda: file_of(photo(noise=0.5), "PNG", compress_level=4),
    "PNG, RGBA": lambda: file_of(_with_alpha(photo(noise=0.3)), "PNG", compress_level=4),
    "PNG, 16 bits": lambda: grid_png(16, 0),
    "PNG, RGB of 16 bits, interlaced": lambda: grid_png(16, 2, interlaced=True),
    "PNG, palette with transparency": lambda: file_of(
        photo(noise=2).quantize(256, dither=PIL.Image.Dither.NONE), "PNG", transparency=0, compress_level=4
    ),
    "AVIF": lambda: file_of(photo(), "AVIF", quality=75, speed=10),
    "AVIF, 4:4:4, alpha": lambda: file_of(_with_alpha(photo()), "AVIF", quality=75, speed=10, subsampling="4:4:4"),
}


def _with_alpha(picture: PIL.Image.Image) -> PIL.Image.Image:
    picture.putalpha(PIL.Image.linear_gradient("L").resize(picture.size))
    return picture


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file with these chunks."""
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def png_header(depth: int, colour: int, interlaced: bool = False, size: tuple[int, int] = SIZE) -> tuple[bytes, bytes]:
    """The first chunk of a PNG."""
    return b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)


def grid_png(depth: int, colour: int, interlaced: bool = False, filter_type: int = 4, noisy: bool = True) -> bytes:
    """A PNG of any kind at the limit; each row has that filter."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = [(WIDTH, HEIGHT)]
    if interlaced:
        passes = [(1024, 512), (1024, 512), (2048, 512), (2048, 1024), (4096, 1024), (4096, 2048), (8192, 2048)]
    chance = np.random.default_rng(0)
    packer = zlib.compressobj(1)
    parts = []
    for width, height in passes:
        row_bytes = (width * channels * depth + 7) // 8
        rows = np.zeros((height, row_bytes + 1), np.uint8)
        if noisy:
            share = min(1.0, BYTES * 0.5 / (WIDTH * HEIGHT * channels * depth / 8))
            changed = chance.random((height, row_bytes)) < share
            rows[:, 1:] = np.where(changed, chance.integers(0, 16, (height, row_bytes), np.uint8), 0)
        rows[:, 0] = filter_type
        parts.append(packer.compress(rows.tobytes()))
    data = b"".join([*parts, packer.flush()])
    palette = [(b"PLTE", bytes(range(256)) * 3), (b"tRNS", bytes(range(256)))] if colour == 3 else []
    return png_of(png_header(depth, colour, interlaced), *palette, (b"IDAT", data), (b"IEND", b""))


def scans_of(content: bytes) -> tuple[bytes, list[bytes]]:
    """Cut a progressive JPEG: what stands before its first scan, and its scans, each with the tables before it."""
    starts, position = [], 2
    head = 0
    while position < len(content) - 2:
        marker = content[position + 1]
        if marker == 0xD9:
            break
        if marker in (0xC4, 0xDA) and not head:
            head = position
        if marker == 0xC4 and (not starts or starts[-1][1]):
            starts.append([position, False])
        length = struct.unpack_from(">H", content, position + 2)[0]
        if marker == 0xDA:
            if not starts or starts[-1][1]:
                starts.append([position, True])
            starts[-1][1] = True
            position += 2 + length
            found = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL).search(content, position)
            position = found.start() if found else len(content)
        else:
            position += 2 + length
    ends = [start for start, _ in starts[1:]] + [position]
    return content[:head], [content[start:end] for (start, _), end in zip(starts, ends, strict=True)]


def _repeated(picture: PIL.Image.Image, scan: int, times: int, **options: Any) -> bytes:
    head, scans = scans_of(file_of(picture, "JPEG", progressive=True, **options))
    plain = head + b"".join(scans)
    times = min(times - len(scans), (BYTES - len(plain) - 2) // len(scans[scan]))
    return plain + scans[scan] * times + b"\xff\xd9"


def arithmetic(progressive: bool, scans: int, data: bytes, components: int = 3) -> bytes:
    """A JPEG whose coefficients are arithmetic codes: to the decoder any bytes are good, and none are zeros."""
    table = b"\xff\xdb\x00\x43\x00" + bytes([1] * 64)
    frame = struct.pack(">BHHB", 8, HEIGHT, WIDTH, components)
    frame += b"".join(bytes([number, 0x11, 0]) for number in range(1, components + 1))
    parts = [b"\xff\xd8", table, _segment(0xCA if progressive else 0xC9, frame)]
    every = b"".join(bytes([number, 0]) for number in range(1, components + 1))

    def scan(chosen: bytes, first: int, last: int, bits: int) -> None:
        parts.append(_segment(0xDA, bytes([len(chosen) // 2]) + chosen + bytes([first, last, bits])))

    if not progressive:
        scan(every, 0, 63, 0)
        parts.append(data)
    else:
        scan(every, 0, 0, 0x01)
        for number in range(scans - 1):
            scan(
                bytes([1 + number % components, 0]),
                1,
                63,
                0x0D if number < components else 0xDC - 0x11 * min(number // components - 1, 12),
            )
            parts.append(data[number * 1000 : number * 1000 + 1000] if len(data) < 1_000_000 else data[number::scans])
    return b"".join(parts) + b"\xff\xd9"


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _random(number: int) -> bytes:
    return np.random.default_rng(0).bytes(number).replace(b"\xff", b"\xfe")


def exif_entries(number: int, size: int) -> bytes:
    """An EXIF block with that many entries of that many bytes."""
    start = 8 + 2 + 12 * number + 4
    entries = b"".join(
        struct.pack("<HHII", 0x8000 + at if at < 0x8000 else at - 0x8000, 7, size, start + at * size if size > 4 else 0)
        for at in range(number)
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", number) + entries + bytes(4) + bytes(number * size if size > 4 else 0)


def _webp_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_with(*extra: tuple[bytes, bytes]) -> bytes:
    plain = file_of(SMALL, "WEBP")
    flags = 0x20 * any(n == b"ICCP" for n, _ in extra) | 0x08 * any(n == b"EXIF" for n, _ in extra)
    flags |= 0x04 * any(n == b"XMP " for n, _ in extra)
    head = struct.pack("<BBBB", flags, 0, 0, 0) + struct.pack("<I", 63)[:3] * 2
    before = [each for each in extra if each[0] == b"ICCP"]
    after = [each for each in extra if each[0] != b"ICCP"]
    return _webp_chunks((b"VP8X", head), *before, (b"VP8 ", plain[20:]), *after)


PLAIN_PNG = (png_header(8, 2, size=(64, 64)), (b"IDAT", zlib.compress(bytes(64 * 193))), (b"IEND", b""))
JPEG = file_of(SMALL, "JPEG")
NAMESPACE = "urn:cyberimage:metadata:1"
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:c="%s">' % NAMESPACE


def _jpeg_with(segments: bytes) -> bytes:
    return JPEG[:2] + segments + JPEG[2:]


HOSTILE |= {
    "JPEG, 100 scans, the last repeated (little data)": lambda: _repeated(
        PIL.Image.new("RGB", SIZE, "teal"), -1, 100, quality=85
    ),
    "JPEG, 100 scans of a photo, the last repeated": lambda: _repeated(
        photo(noise=1), -1, 100, quality=50, subsampling=0
    ),
    "JPEG, 100 scans of a photo, that of Cb repeated": lambda: _repeated(
        photo(noise=1), -3, 100, quality=50, subsampling=0
    ),
    "JPEG, 100 scans, CMYK": lambda: _repeated(PIL.Image.new("CMYK", SIZE, "teal"), -1, 100, quality=85),
    "JPEG, 1000 scans (little data)": lambda: _repeated(PIL.Image.new("RGB", SIZE, "teal"), -1, 1000, quality=85),
    "JPEG, arithmetic, random data": lambda: arithmetic(False, 1, _random(BYTES - 2000)),
    "JPEG, arithmetic, no data": lambda: arithmetic(False, 1, _random(20)),
    "JPEG, arithmetic, progressive, 100 scans, no data": lambda: arithmetic(True, 100, b""),
    "JPEG, arithmetic, progressive, 100 scans, zeros": lambda: arithmetic(True, 100, bytes(100_000)),
    "JPEG, arithmetic, progressive, 100 scans of bytes 55": lambda: arithmetic(True, 100, b"\x55" * 100_000),
    "JPEG, arithmetic, progressive, 10 scans, little data": lambda: arithmetic(True, 10, _random(20_000)),
    "JPEG, arithmetic, progressive, 20 scans, 20 MB": lambda: arithmetic(True, 20, _random(BYTES - 10_000)),
    "JPEG, arithmetic, progressive, 100 scans, 20 MB": lambda: arithmetic(True, 100, _random(BYTES - 10_000)),
    "JPEG, 5 million segments": lambda: _jpeg_with(b"\xff\xec\x00\x02" * (BYTES // 4 - 1000)),
    "JPEG, 300,000 comments": lambda: _jpeg_with(b"\xff\xfe\x00\x04ab" * 300_000),
    "JPEG, 20 MB of FF": lambda: _jpeg_with(b"\xff" * (BYTES - 10_000)),
    "JPEG, 20 MB of zeros between segments": lambda: _jpeg_with(bytes(BYTES - 10_000)),
    "JPEG, EXIF in 300 segments": lambda: _jpeg_with(
        b"".join(_segment(0xE1, b"Exif\0\0" + part) for part in _cut(exif_entries(60_000, 300), 65_000))
    ),
    "JPEG, EXIF in 300 segments, little in each": lambda: _jpeg_with(
        _segment(0xE1, b"Exif\0\0" + exif_entries(5000, 4)) + _segment(0xE1, b"Exif\0\0" + b"x") * 1_000_000
    ),
    "JPEG, ICC profile in 320 pieces": lambda: _jpeg_with(
        b"".join(_segment(0xE2, b"ICC_PROFILE\0" + bytes([n % 255 + 1, 255]) + bytes(65_000)) for n in range(320))
    ),
    "JPEG, 20 MB of 20-byte ICC pieces": lambda: _jpeg_with(_segment(0xE2, b"ICC_PROFILE\0\1\1ab") * (BYTES // 22)),
    "JPEG, Photoshop resources": lambda: _jpeg_with(
        _segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x00\x01\0\0\0\0\0\0" * 5400) * 320
    ),
    "MPO of 30,000 pictures": lambda: _mpo(30_000),
    "PNG, 1 bit": lambda: grid_png(1, 0, noisy=False),
    "PNG, palette of 2 colours, transparent": lambda: grid_png(1, 3, noisy=False),
    "PNG, 1 bit, 32,768 x 1,024, interlaced": lambda: grid_png(1, 0, interlaced=True, noisy=False),
    "PNG, one row": lambda: _one_row(),
    "PNG, one column": lambda: _one_column(),
    "PNG, RGBA of 16 bits, interlaced, little data": lambda: grid_png(16, 6, interlaced=True, noisy=False),
    "PNG, RGBA of 16 bits, interlaced, much data": lambda: grid_png(16, 6, interlaced=True),
    "PNG, gray with alpha of 16 bits": lambda: grid_png(16, 4),
    "PNG, 1.7 million chunks before the pixels": lambda: png_of(
        PLAIN_PNG[0], *[(b"abCd", b"")] * 1_700_000, *PLAIN_PNG[1:]
    ),
    "PNG, 1.7 million chunks after the pixels": lambda: png_of(
        *PLAIN_PNG[:2], *[(b"abCd", b"")] * 1_700_000, PLAIN_PNG[2]
    ),
    "PNG, 1.3 million text chunks": lambda: png_of(PLAIN_PNG[0], *[(b"tEXt", b"a\0b")] * 1_300_000, *PLAIN_PNG[1:]),
    "PNG, 1.7 million empty IDAT": lambda: png_of(PLAIN_PNG[0], *[(b"IDAT", b"")] * 1_700_000, *PLAIN_PNG[1:]),
    "PNG, pixels in 1.2 million IDAT": lambda: _scattered(),
    "PNG, 63 MB of zTXt": lambda: png_of(
        PLAIN_PNG[0], *[(b"zTXt", b"%d\0\0" % n + zlib.compress(bytes(2**20 - 1))) for n in range(63)], *PLAIN_PNG[1:]
    ),
    "PNG, 10,000 bombs in iCCP": lambda: png_of(
        PLAIN_PNG[0], *[(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**20 - 1), 9))] * 10_000, *PLAIN_PNG[1:]
    ),
    "PNG, EXIF of 65,535 entries": lambda: png_of(PLAIN_PNG[0], (b"eXIf", exif_entries(65_535, 4)), *PLAIN_PNG[1:]),
    "PNG, EXIF of 65,535 entries of 300 bytes": lambda: png_of(
        PLAIN_PNG[0], (b"eXIf", exif_entries(65_535, 300)), *PLAIN_PNG[1:]
    ),
    "PNG, EXIF as hexadecimal text": lambda: png_of(
        PLAIN_PNG[0],
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 500000\n" + bytes(500_000).hex().encode())),
        *PLAIN_PNG[1:],
    ),
    "PNG, pixels that unpack to 20 GB": lambda: _endless(),
    "PNG, 100 acTL": lambda: png_of(PLAIN_PNG[0], *[(b"acTL", bytes(3) + b"\x01" + bytes(4))] * 100, *PLAIN_PNG[1:]),
    "WebP, 1 million chunks": lambda: _webp_with(*[(b"ABCD", b"")] * 1_000_000),
    "WebP, ICC profile of 20 MB": lambda: _webp_with((b"ICCP", bytes(BYTES - 10_000))),
    "WebP, 100,000 ICC profiles": lambda: _webp_with(*[(b"ICCP", b"ab")] * 100_000),
    "WebP, EXIF of 65,535 entries of 300 bytes": lambda: _webp_with((b"EXIF", exif_entries(65_535, 300))),
    "WebP, lossless, one colour": lambda: file_of(PIL.Image.new("RGB", SIZE, "teal"), "WEBP", lossless=True, method=0),
    "WebP, lossless, 20 MB": lambda: file_of(_specks(), "WEBP", lossless=True, method=0, quality=0),
    "WebP, XMP of 20 MB, deep": lambda: _webp_with(
        (b"XMP ", (XMP + "<a>" * 2_000_000 + "</a>" * 2_000_000 + "</x:xmpmeta>").encode())
    ),
    "WebP, XMP of 1,000,000 attributes": lambda: _webp_with(
        (b"XMP ", (XMP + "<a " + " ".join(f'b{n}=""' for n in range(1_000_000)) + "/></x:xmpmeta>").encode())
    ),
    "WebP, XMP of 4,000,000 elements": lambda: _webp_with(
        (b"XMP ", (XMP + "<a/>" * 4_000_000 + "</x:xmpmeta>").encode())
    ),
    "PNG, XMP of 4 million characters of JSON lists": lambda: png_of(
        PLAIN_PNG[0], (b"tEXt", b"cyberimage\0" + b"[" * 1_000_000), *PLAIN_PNG[1:]
    ),
    "WebP, animation of 16383x2048, 1,000 frames": lambda: _webp_animation(),
    "AVIF of one colour": lambda: file_of(PIL.Image.new("RGB", SIZE, "teal"), "AVIF", speed=10),
    "AVIF of 16384x16384": lambda: file_of(PIL.Image.new("L", (16384, 10900), "teal"), "AVIF", speed=10),
}


def _cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def _mpo(number: int) -> bytes:
    entries = struct.pack("<III", 0, 0, 0) + struct.pack("<HH", 0, 0)
    count = min(number, 4000)
    index = b"II*\0\x08\0\0\0" + struct.pack("<H", 3)
    index += struct.pack("<HHI4s", 0xB000, 7, 4, b"0100")
    index += struct.pack("<HHII", 0xB001, 4, 1, number)
    index += struct.pack("<HHII", 0xB002, 7, 16 * count, 8 + 2 + 36 + 4) + bytes(4) + entries * count
    return _jpeg_with(_segment(0xE2, b"MPF\0" + index))


def _one_row() -> bytes:
    rows = zlib.compress(bytes(2**25 * 3 + 1))
    return png_of(png_header(8, 2, size=(2**25, 1)), (b"IDAT", rows), (b"IEND", b""))


def _one_column() -> bytes:
    rows = zlib.compress(bytes(4) * 2**25)
    return png_of(png_header(8, 2, size=(1, 2**25)), (b"IDAT", rows), (b"IEND", b""))


def _scattered() -> bytes:
    data = np.random.default_rng(0).bytes(1_200_000)
    packed = zlib.compress(b"".join(b"\0" + data[n : n + 3000] for n in range(0, 1_200_000, 3000)), 0)
    return png_of(png_header(8, 2, size=(1000, 400)), *[(b"IDAT", bytes([each])) for each in packed], (b"IEND", b""))


def _endless() -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(2**24)
    data = b"".join(packer.compress(block) for _ in range(1200)) + packer.flush()
    return png_of(png_header(8, 2, size=(64, 64)), (b"IDAT", data), (b"IEND", b""))


def _specks() -> PIL.Image.Image:
    chance = np.random.default_rng(0)
    return PIL.Image.fromarray((chance.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) // 128) * 60)


def _webp_animation() -> bytes:
    first = PIL.Image.new("RGB", (8192, 4096))
    return file_of(
        first,
        "WEBP",
        save_all=True,
        append_images=[PIL.Image.new("RGB", first.size, (n, 0, 0)) for n in range(3)],
        method=0,
    )


if __name__ == "__main__":
    main()
