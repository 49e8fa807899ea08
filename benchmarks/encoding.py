"""What encoding an image of 1024x1024 takes: PNG by several encoders, then the other formats and thumbnails.

The picture is made of smooth colours with grain, as photographs have it. Every encoder is called in turn, round after
round; the table has medians of the processor's time, of all threads together, so that whatever else the machine does
hardly counts. A PNG counts only if it is decoded equal, pixel by pixel.

    python -m benchmarks.encoding
    python -m benchmarks.encoding --side 512 --rounds 20

Encoders of packages that CyberImage does without (opencv-python-headless, imagecodecs, pyvips with pyvips-binary, isal)
are measured where they are installed.
"""

from __future__ import annotations

import argparse
import io
import statistics
import struct
import time
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import PIL.Image

from deployments.storage.formats import FORMATS, available_formats
from deployments.storage.metadata import png
from deployments.storage.metadata.image_file import encode_image
from deployments.storage.thumbnails import THUMBNAIL_SIZES, encode_thumbnail

METADATA = {
    "prompt": "a large red circle on a blue background",
    "negative_prompt": "",
    "settings": {"num_inference_steps": 20, "guidance_scale": 3.0, "seed": 7, "width": 1024, "height": 1024},
}
BASELINE = "Pillow, its default"

Encoder = Callable[[PIL.Image.Image], bytes]


def picture_of(side: int) -> PIL.Image.Image:
    """Smooth colours with grain, the same each time."""
    random = np.random.default_rng(1)
    colours = PIL.Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    smooth = np.asarray(colours.resize((side, side), PIL.Image.Resampling.BICUBIC), dtype=float)
    return PIL.Image.fromarray(np.clip(smooth + random.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8))


def pillow(picture: PIL.Image.Image, **options: Any) -> bytes:
    """Pillow's PNG."""
    file = io.BytesIO()
    picture.save(file, format="PNG", **options)
    return file.getvalue()


def without_fpng(picture: PIL.Image.Image) -> bytes:
    """Our PNG where there is no wheel of fpng."""
    kept, png.fpng = png.fpng, None
    try:
        return encode_image(picture, METADATA)
    finally:
        png.fpng = kept


def isal_png(isal: Any, picture: PIL.Image.Image) -> bytes:
    """A PNG by hand: each row as the difference to the pixel on its left, compressed by ISA-L."""
    pixels = np.asarray(picture)
    rows = np.empty((pixels.shape[0], 1 + pixels.shape[1] * 3), np.uint8)
    rows[:, 0] = 1
    rows[:, 1:] = np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1])).reshape(len(pixels), -1)
    header = struct.pack(">IIBBBBB", *picture.size, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", isal.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def vips_png(vips: Any, picture: PIL.Image.Image) -> bytes:
    """The PNG of libvips at its lowest level."""
    return vips.Image.new_from_array(np.asarray(picture)).pngsave_buffer(compression=1)


def png_encoders() -> dict[str, Encoder]:
    """Every encoder of PNG that is installed, by what the table calls it."""
    found: dict[str, Encoder] = {
        BASELINE: pillow,
        "Pillow, level 1": lambda picture: pillow(picture, compress_level=1),
        "CyberImage without fpng, with metadata": without_fpng,
    }
    others: dict[str, tuple[str, Callable[[Any, PIL.Image.Image], bytes]]] = {
        "OpenCV": ("cv2", lambda cv2, picture: cv2.imencode(".png", np.asarray(picture)[..., ::-1])[1].tobytes()),
        "imagecodecs, libspng, level 1": (
            "imagecodecs",
            lambda codecs, it: codecs.spng_encode(np.array(it), level=1),
        ),
        "libvips, level 1": ("pyvips", vips_png),
        "ISA-L, level 1, one filter": ("isal.isal_zlib", isal_png),
    }
    for name, (module, encode) in others.items():
        try:
            package = import_module(module)
        except ImportError:
            continue
        found[name] = lambda picture, encode=encode, package=package: encode(package, picture)
    if png.fpng is not None:
        found["CyberImage with fpng, with metadata"] = lambda picture: encode_image(picture, METADATA)
    return found


def other_encoders() -> dict[str, Encoder]:
    """The other formats with metadata, and thumbnails."""
    found: dict[str, Encoder] = {}
    for name in available_formats():
        if quality := FORMATS[name].quality:
            found[f"{name}, quality {quality}"] = lambda picture, name=name: encode_image(
                picture, METADATA, FORMATS[name]
            )
    for size in THUMBNAIL_SIZES:
        found[f"thumbnail of {size}"] = lambda picture, size=size: encode_thumbnail(picture, size)
    return found


def measure(encoders: dict[str, Encoder], picture: PIL.Image.Image, rounds: int) -> dict[str, tuple[float, int]]:
    """Milliseconds and bytes of each."""
    times: dict[str, list[float]] = {name: [] for name in encoders}
    sizes = {name: len(encode(picture)) for name, encode in encoders.items()}
    for _ in range(rounds):
        for name, encode in encoders.items():
            start = time.process_time()
            encode(picture)
            times[name].append((time.process_time() - start) * 1000)
    return {name: (statistics.median(times[name]), sizes[name]) for name in encoders}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=1024, help="width and height, in pixels")
    parser.add_argument("--rounds", type=int, default=9, help="calls of each encoder")
    arguments = parser.parse_args()
    picture = picture_of(arguments.side)
    encoders = png_encoders()
    for name, encode in encoders.items():
        with PIL.Image.open(io.BytesIO(encode(picture))) as decoded:
            assert decoded.tobytes() == picture.tobytes(), f"{name} changes pixels"
    found = measure(encoders, picture, arguments.rounds)
    baseline = found[BASELINE][0]
    print("| PNG encoder | ms | share of Pillow's default | bytes |\n|---|---|---|---|")
    for name, (milliseconds, size) in found.items():
        print(f"| {name} | {milliseconds:.1f} | 1/{baseline / milliseconds:.1f} | {size} |")
    print("\n| other | ms | bytes |\n|---|---|---|")
    for name, (milliseconds, size) in measure(other_encoders(), picture, arguments.rounds).items():
        print(f"| {name} | {milliseconds:.1f} | {size} |")


if __name__ == "__main__":
    main()
