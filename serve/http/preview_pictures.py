"""Scales the previews of jobs to the size of their images."""

from __future__ import annotations

import asyncio
import io

import PIL.Image

from deployments.parameters import GenerationSettings
from deployments.storage.formats import FORMATS
from deployments.storage.metadata.image_file import encode_image


async def enlarge_preview(
    preview: bytes, settings: GenerationSettings, output_format: str, quality: int | None = None
) -> bytes:
    """Scale a preview, which has one pixel for each position of the latents, to the size of the job's images.

    Args:
        preview: A file of an image format.
        settings: Of the job.
        output_format: A key of ``FORMATS``.
        quality: 1 to 100, for a format with loss; None for its own.
    """
    return await asyncio.to_thread(_enlarge, preview, (settings.width, settings.height), output_format, quality)


def _enlarge(preview: bytes, size: tuple[int, int], output_format: str, quality: int | None) -> bytes:
    with PIL.Image.open(io.BytesIO(preview)) as small:
        picture = small.convert("RGB").resize(size, PIL.Image.Resampling.BICUBIC)
    return encode_image(picture, None, FORMATS[output_format], quality)
