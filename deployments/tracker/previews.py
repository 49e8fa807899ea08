"""The newest preview of each job under way, in memory: it is worth nothing once the image is there."""

from __future__ import annotations

import io
from collections import OrderedDict

import numpy as np
import PIL.Image
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
        self._most = most
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def keep(self, job_id: str, picture: bytes) -> None:
        """Remember a job's newest preview; where there are too many, the one that is oldest is forgotten."""
        self._kept[job_id] = picture
        self._kept.move_to_end(job_id)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def get(self, job_id: str) -> bytes | None:
        """A job's newest preview, if there is one."""
        return self._kept.get(job_id)
