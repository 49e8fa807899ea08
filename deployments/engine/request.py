"""What the engine is asked for: one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.pipelines.tasks import Task


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
        loras: Names and scales of those of the model's LoRAs that shall be at work besides the ones that always are.
        deterministic: Whether its bytes must not depend on who else is in the making.
        priority: A higher class goes first.
        scheduler: A scheduler class of diffusers that is compatible with the model's own; None for that.
        step_cache: Relative change below which a step skips most of the denoiser; 0: every step is a full one. Has an
            effect only in an engine that was made with a step cache.
        on_preview: Called on the engine's thread with a step's number and what the image looks like after it: red,
            green and blue of shape (latent height, latent width, 3), as uint8. Must return at once.
        preview_every: Steps from one preview to the next.
        on_step: Called on the engine's thread with the number of steps done; must return at once.
        on_stage: Called on the engine's thread at each call of a module, with the value of the :class:`Stage` that it
            is for; must return at once.
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
    loras: tuple[tuple[str, float], ...] = ()
    deterministic: bool = False
    priority: int = 0
    scheduler: str | None = None
    step_cache: float = 0.0
    on_preview: Callable[[int, NDArray[np.uint8]], None] | None = field(default=None, compare=False)
    preview_every: int = 1
    on_step: Callable[[int], None] = field(default=_ignore_step, compare=False)
    on_stage: Callable[[str], None] | None = field(default=None, compare=False)

    @property
    def denoising_steps(self) -> int:
        """Steps that are really done: an image to start from saves the first ones, see :func:`steps_with_strength`."""
        if self.task == "text2image" or "strength" not in self.inputs:
            return self.num_inference_steps
        return steps_with_strength(self.num_inference_steps, self.inputs["strength"])


def steps_with_strength(num_inference_steps: int, strength: float) -> int:
    """Denoising steps of an image that starts from another one.

    As diffusers has it (``get_timesteps`` of its image-to-image pipelines); some of them do one more where the product
    is no whole number.

    Args:
        num_inference_steps: Of an image from noise.
        strength: How much of the image to start from is noise, 0 to 1.
    """
    return min(int(num_inference_steps * strength), num_inference_steps)
