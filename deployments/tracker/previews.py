"""The newest preview of each running job, in memory: it is of no use once the image exists."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
from cachetools import FIFOCache
from numpy.typing import NDArray

MEDIA_TYPE = "image/webp"


def encode_preview(picture: NDArray[np.uint8]) -> bytes:
    """Write a picture as a WebP file.

    Args:
        picture: Red, green and blue of shape (height, width, 3).
    """
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "WEBP", quality=80, method=0)
    return file.getvalue()


class Previews:
    """Remembers the previews of the jobs that were reported last.

    Args:
        most: Jobs to remember.
    """

    def __init__(self, most: int) -> None:
        self._kept: FIFOCache[str, bytes] = FIFOCache(most)

    def keep(self, job_id: str, picture: bytes) -> None:
        """Remember a job's newest preview; where there are too many, the oldest one is forgotten."""
        self._kept[job_id] = picture

    def get(self, job_id: str) -> bytes | None:
        """A job's newest preview, if there is one."""
        return self._kept.get(job_id)
