"""Whether an image came out as numbers, and whether there is anything on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deployments.engine.readbacks import Readback
from deployments.engine.request import ImageRequest
from deployments.engine.trees import tensors_of
from deployments.pipelines.exceptions import NotNumbersError

_BLACK = 0.5 / 255  # what is below becomes 0 in a file
_ALPHA = 4
_FLAGS = ("nsfw_content_detected", "nsfw_detected")


class DecodingCheck:
    """Looks at what an autoencoder is given and what it gives, once for each image and on the device.

    The picture itself does not show it all: its values are clamped, and become bytes in some pipelines.
    """

    def __init__(self) -> None:
        self._are_numbers: Readback | None = None
        self._dtype: torch.dtype | None = None

    def note(self, latents: torch.Tensor | None, decoded: Any) -> None:
        """Look at the values. The host does not wait for what comes of it.

        Args:
            latents: The image's, before they were decoded; None where the pipeline does not show them.
            decoded: What the autoencoder gives.
        """
        pictures = [tensor for tensor in tensors_of(decoded) if tensor.is_floating_point()]
        if not pictures:
            return
        self._dtype = pictures[0].dtype
        before = pictures[0].new_ones(()) if latents is None else latents
        self._are_numbers = Readback(torch.stack([_is_finite(before), _is_finite(pictures[0])]))

    def require_numbers(self, picture: NDArray[np.float32], request: ImageRequest) -> None:
        """Check the finished picture.

        Args:
            picture: Of shape (height, width, channels).
            request: Of the image.

        Raises:
            NotNumbersError: If some value is not a number, on the picture or before it was clamped.
        """
        before, decoded = (True, True) if self._are_numbers is None else self._are_numbers.value().tolist()
        # The largest of values with one that is not a number is not a number.
        if before and decoded and np.isfinite(picture.max(initial=0)):
            return
        if before and self._dtype is not None:
            raise NotNumbersError(_decoding_message(self._dtype))
        raise NotNumbersError(_denoising_message(request))


@dataclass(frozen=True)
class PictureFindings:
    """What is to say about a finished picture.

    Attributes:
        is_black: Whether every pixel is black.
        is_flagged: Whether the model's safety checker refused it, and painted it over.
    """

    is_black: bool = False
    is_flagged: bool = False

    @classmethod
    def of(cls, picture: NDArray[np.float32], output: Any) -> PictureFindings:
        """Look at a picture.

        Args:
            picture: Of shape (height, width, channels), with values in 0..1.
            output: Of the pipeline.
        """
        colours = picture[..., :3] if picture.shape[-1] == _ALPHA else picture
        return cls(is_black=bool(colours.max(initial=0) < _BLACK), is_flagged=_has_flag(output))


def _has_flag(output: Any) -> bool:
    flags = [output.get(name) for name in _FLAGS] if isinstance(output, Mapping) else []
    return any(any(flag) for flag in flags if isinstance(flag, Iterable))


def _is_finite(tensor: torch.Tensor) -> torch.Tensor:
    return torch.isfinite(tensor).all()


def _decoding_message(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    return (
        f"The model's VAE produced values that are not numbers, in {name}. Set dtype: bfloat16 or float32 for the "
        "model, or take a VAE that is made for float16. Other images are not affected."
    )


def _denoising_message(request: ImageRequest) -> str:
    settings = request.settings
    causes = [f'the LoRA "{lora.name}"' for lora in settings.loras if lora.scale]
    if "control_image" in request.inputs:
        causes.append("the ControlNet")
    causes.append("a dtype that is too narrow (set dtype: bfloat16 or float32 for the model)")
    return (
        "The model produced values that are not numbers, before its picture was decoded. Likely causes: "
        f"{', '.join(causes)}. Other images are not affected."
    )
