"""PNG files with text in them, written fast."""

from __future__ import annotations

import io
from collections.abc import Mapping

import PIL.Image
from PIL.PngImagePlugin import PngInfo, putchunk

try:
    import fpng
except ImportError:  # there is no wheel of it for this machine
    fpng = None

PILLOW_LEVEL = 1  # half of the time of Pillow's default, for somewhat larger files
_CHANNELS = {"RGB": 3, "RGBA": 4}
_AFTER_HEADER = 8 + 25  # the signature, and the chunk IHDR: length, name, 13 bytes, checksum


def encode_png(image: PIL.Image.Image, texts: Mapping[str, str]) -> bytes:
    """Return the image as PNG with a text chunk for each text.

    Chunks are tEXt where the text is Latin-1 and iTXt (UTF-8) where it is not, as the PNG specification has it.

    Args:
        image: The picture; fpng takes RGB and RGBA, Pillow the rest.
        texts: By their keywords: 1 to 79 Latin-1 characters.
    """
    chunks = PngInfo()
    for keyword, text in texts.items():
        chunks.add_text(keyword, text)
    if fpng is None or image.mode not in _CHANNELS:
        file = io.BytesIO()
        image.save(file, format="PNG", pnginfo=chunks, compress_level=PILLOW_LEVEL)
        return file.getvalue()
    plain: bytes = fpng.from_bytes(image.tobytes(), *image.size, _CHANNELS[image.mode])
    return plain[:_AFTER_HEADER] + _written(chunks) + plain[_AFTER_HEADER:]


def _written(chunks: PngInfo) -> bytes:
    file = io.BytesIO()
    for name, content, *_ in chunks.chunks:
        putchunk(file, name, content)
    return file.getvalue()
