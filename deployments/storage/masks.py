"""Masks in other forms than ours, whose white parts are repainted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import PIL.Image
import PIL.ImageOps

from deployments.storage.picture import PictureError

MaskForm = Literal["transparent", "black"]
"""Which parts of a mask are repainted."""


class NoTransparencyError(PictureError):
    """It has no transparency; what is transparent in it is drawn anew, so send a PNG or WebP with an alpha channel."""


def mask_of_transparency(mask: PIL.Image.Image) -> PIL.Image.Image:
    """Convert OpenAI's mask, whose transparent parts are repainted.

    Raises:
        NoTransparencyError: Nothing of it is transparent.
    """
    if mask.mode != "RGBA":
        raise NoTransparencyError
    return PIL.ImageOps.invert(mask.getchannel("A"))


def _inverted(mask: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.ImageOps.invert(mask.convert("L"))


CONVERSIONS: Mapping[MaskForm, Callable[[PIL.Image.Image], PIL.Image.Image]] = {
    "transparent": mask_of_transparency,
    "black": _inverted,
}
