"""Requests for one image of a tiny pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deployments.engine.request import ImageRequest
from deployments.parameters import GenerationSettings, LoraChoice, Task

_SETTINGS: dict[str, Any] = {
    "num_images": 1,
    "num_inference_steps": 3,
    "guidance_scale": 3.0,
    "width": 16,
    "height": 16,
    "seed": 1,
}
_PICTURES: dict[Task, dict[str, str]] = {
    "text2image": {},
    "image2image": {"image": "start"},
    "inpaint": {"image": "start", "mask": "mask"},
}


def image_request(
    prompt: str = "a red circle",
    *,
    task: Task = "text2image",
    loras: Sequence[tuple[str, float]] = (),
    **changes: Any,
) -> ImageRequest:
    """A request in few words.

    Args:
        prompt: What to draw.
        task: What the image is made from; its pictures are in ``inputs``.
        loras: Names and scales.
        changes: Other fields of the settings or of the request.
    """
    known = {name: changes.pop(name) for name in list(changes) if name in GenerationSettings.model_fields}
    chosen = tuple(LoraChoice(name=name, scale=scale) for name, scale in loras)
    settings = GenerationSettings(**(_SETTINGS | _PICTURES[task] | {"loras": chosen} | known))
    return ImageRequest(prompt, settings, **changes)
