"""What the engine is asked for: one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


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
    on_step: Callable[[int], None] = field(default=_ignore_step, compare=False)
