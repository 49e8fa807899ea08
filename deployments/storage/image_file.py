"""Image files: their names, and the parameters they carry.

The ``parameters`` text is AUTOMATIC1111's "infotext", as its ``modules/processing.py`` (``create_infotext``) writes it
and ``modules/infotext_utils.py`` (``parse_generation_parameters``) reads it:

    a castle
    Negative prompt: fog
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768, Model: sd, Version: v1.10.1

That form cannot tell a prompt with a line "Negative prompt: ..." from a negative prompt, so the chunk ``cyberimage``
holds the same as JSON.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID, uuid5

import PIL.Image
from PIL.PngImagePlugin import PngInfo

PARAMETERS_CHUNK = "parameters"
METADATA_CHUNK = "cyberimage"
COMPRESS_LEVEL = 1  # a third of the time of Pillow's default, for somewhat larger files


class UnreadableImageError(ValueError):
    """Not a readable PNG file."""

    status = 422

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


def image_id(job_id: str, index: int) -> str:
    """Return the id of an image: always the same for the same place in the same job (RFC 9562, UUID version 5).

    Args:
        job_id: The job's UUID.
        index: The image's place among the job's images, from 0.

    Raises:
        ValueError: The job id is not a UUID.
    """
    return str(uuid5(UUID(job_id), f"image/{index}"))


def image_key(image_id: str, created: date, extension: str) -> str:
    """Return where storage keeps an image: ``YYYY/MM/DD/<id>.<extension>``.

    Args:
        image_id: The image's id.
        created: The day the *job* was created, in UTC, so that every attempt has the same key.
        extension: Without the dot, in small letters: png.
    """
    return f"{created.year:04}/{created.month:02}/{created.day:02}/{image_id}.{extension}"


def encode_png(image: PIL.Image.Image, metadata: Mapping[str, Any]) -> bytes:
    """Return the image as PNG, with its parameters in the chunks ``parameters`` and ``cyberimage``.

    Chunks are tEXt where the text is Latin-1 and iTXt (UTF-8) where it is not, as the PNG specification has it.

    Args:
        image: The picture.
        metadata: What JSON can hold; ``parameters_text`` says which keys it reads.

    Raises:
        ValueError: The metadata has a number that JSON cannot hold.
        TypeError: The metadata has something else that JSON cannot hold.
    """
    chunks = PngInfo()
    chunks.add_text(PARAMETERS_CHUNK, parameters_text(metadata, image.size))
    chunks.add_text(METADATA_CHUNK, json.dumps(dict(metadata), allow_nan=False))
    file = io.BytesIO()
    image.save(file, format="PNG", pnginfo=chunks, compress_level=COMPRESS_LEVEL)
    return file.getvalue()


def read_metadata(content: bytes) -> dict[str, Any]:
    """Return the metadata that ``encode_png`` was given; empty for a PNG of another origin.

    Args:
        content: A PNG file. Its pixels are not decoded.

    Raises:
        UnreadableImageError: It is not a PNG file, or its metadata is damaged.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            text = image.info.get(METADATA_CHUNK, "{}")
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise UnreadableImageError from error
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise UnreadableImageError("The image's metadata is damaged.") from error
    if not isinstance(metadata, dict):
        raise UnreadableImageError("The image's metadata is damaged.")
    return metadata


def parameters_text(metadata: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Return AUTOMATIC1111's text of an image; what the metadata lacks is left out.

    Args:
        metadata: ``prompt``, ``negative_prompt``, ``model_id``, ``sampler``, ``version``, and ``settings`` with
            ``num_inference_steps``, ``guidance_scale`` and this very image's ``seed``.
        size: Width and height in pixels.
    """
    settings = metadata.get("settings") or {}
    values = {
        "Steps": settings.get("num_inference_steps"),
        "Sampler": metadata.get("sampler"),
        "CFG scale": settings.get("guidance_scale"),
        "Seed": settings.get("seed"),
        "Size": f"{size[0]}x{size[1]}",
        "Model": metadata.get("model_id"),
        "Version": metadata.get("version"),
    }
    lines = [str(metadata.get("prompt") or "")]
    if metadata.get("negative_prompt"):
        lines.append(f"Negative prompt: {metadata['negative_prompt']}")
    lines.append(", ".join(f"{name}: {_value_text(value)}" for name, value in values.items() if value is not None))
    return _storable("\n".join(lines)).strip()


def _value_text(value: Any) -> str:
    """Write a value as AUTOMATIC1111 does: as JSON where it has a character that separates values."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def _storable(text: str) -> str:
    """Replace what a PNG text chunk cannot hold: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
