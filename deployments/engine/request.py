"""What the engine is asked for: one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["text2image", "image2image", "inpaint"]


def _ignore_step(step: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class ImageRequest:
    """The parameters of one image.

    Attributes:
        prompt: What to draw.
        negative_prompt: What to keep away from; empty for nothing.
        num_inference_steps: Denoising steps.
        guidance_scale: Classifier-free guidance scale.
        width: Pixels.
        height: Pixels.
        seed: Of the noise.
        max_sequence_length: Prompt tokens, for pipelines that take a limit.
        task: Which pipeline of the model's family makes it.
        inputs: Further arguments of that pipeline's call, by its own names: ``image``, ``mask_image``, ``strength``...
        deterministic: Whether its bytes must not depend on who else is in the making.
        priority: A higher class goes first.
        scheduler: A scheduler class of diffusers that is compatible with the model's own; None for that.
        step_cache: Relative change below which a step skips most of the denoiser; 0: every step is a full one. Has an
            effect only in an engine that was made with a step cache.
        on_preview: Called on the engine's thread with a step's number and what the image looks like after it: red,
            green and blue of shape (latent height, latent width, 3), as uint8. Must return at once.
        preview_every: Steps from one preview to the next.
        on_step: Called on the engine's thread with the number of steps done; must return at once.
    """

    prompt: str
    num_inference_steps: int
    guidance_scale: float
    width: int
    height: int
    seed: int
    negative_prompt: str = ""
    max_sequence_length: int | None = None
    task: Task = "text2image"
    inputs: Mapping[str, Any] = field(default_factory=dict, compare=False)
    deterministic: bool = False
    priority: int = 0
    scheduler: str | None = None
    step_cache: float = 0.0
    on_preview: Callable[[int, NDArray[np.uint8]], None] | None = field(default=None, compare=False)
    preview_every: int = 1
    on_step: Callable[[int], None] = field(default=_ignore_step, compare=False)
