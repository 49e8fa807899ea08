"""What the engine is asked for: one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.parameters import GenerationSettings


def _ignore_step(step: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class ImageRequest:
    """One image of a job.

    Attributes:
        prompt: What to draw.
        settings: Of the job. A step cache has an effect only in an engine that was made with one.
        negative_prompt: What to keep away from; empty for nothing.
        index: The image's place in the job, from 0, which its seed depends on.
        inputs: Pictures and further arguments of the call of the task's pipeline, by its own names: ``image``,
            ``mask_image``, ``control_image``...
        priority: A higher class goes first.
        on_preview: Called on the engine's thread with a step's number and what the image looks like after it: red,
            green and blue of shape (latent height, latent width, 3), as uint8. Must return at once. None where nobody
            watches.
        preview_every: Steps from one preview to the next, at least.
        preview_seconds: Seconds from one preview to the next, at least.
        on_step: Called on the engine's thread with the number of steps done; must return at once.
        on_stage: Called on the engine's thread at each call of a module, with the value of the :class:`Stage` that it
            is for; must return at once.
    """

    prompt: str
    settings: GenerationSettings
    negative_prompt: str = ""
    index: int = 0
    inputs: Mapping[str, Any] = field(default_factory=dict, compare=False)
    priority: int = 0
    on_preview: Callable[[int, NDArray[np.uint8]], None] | None = field(default=None, compare=False)
    preview_every: int = 1
    preview_seconds: float = 0.0
    on_step: Callable[[int], None] = field(default=_ignore_step, compare=False)
    on_stage: Callable[[str], None] | None = field(default=None, compare=False)
