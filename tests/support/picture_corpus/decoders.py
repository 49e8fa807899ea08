"""Everything that reads a picture of which a client may have chosen each byte."""

from __future__ import annotations

from collections.abc import Callable

from deployments.decoding.tasks import REFUSALS, TASKS
from deployments.storage.metadata.image_file import UnreadableImageError, read_metadata, read_parameters
from deployments.storage.picture import PictureTooLargeError

PROMISED = (*REFUSALS.values(), UnreadableImageError)


def decoders(max_pixels: int) -> dict[str, Callable[[bytes], object]]:
    """By what they are for; each takes a file and raises nothing but what is ``PROMISED``.

    Args:
        max_pixels: Width times height that is decoded at most.
    """

    def refuse_large(pixels: int) -> None:
        if pixels > max_pixels:
            raise PictureTooLargeError

    return {
        "upload": lambda content: TASKS["clean"](content, refuse_large, max_pixels=max_pixels, mask_form=None),
        "thumbnail": lambda content: TASKS["thumbnail"](content, refuse_large, size=256),
        "metadata": read_metadata,
        "parameters": read_parameters,
    }
