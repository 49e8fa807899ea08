"""The ``parameters`` text of an image: AUTOMATIC1111's "infotext".

As its ``modules/processing.py`` (``create_infotext``) writes it and ``modules/infotext_utils.py``
(``parse_generation_parameters``) reads it:

    a castle
    Negative prompt: fog
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768, Model: sd, Version: v1.10.1
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def parameters_text(metadata: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Return AUTOMATIC1111's text of an image; what the metadata lacks is left out.

    Args:
        metadata: ``prompt``, ``negative_prompt``, ``model_id``, ``sampler``, ``version``, and ``settings`` with
            ``num_inference_steps``, ``guidance_scale`` and this very image's ``seed``.
        size: Width and height in pixels.
    """
    settings = metadata.get("settings") or {}
    values = {
        "Steps": settings.get("num_inference_steps"),
        "Sampler": metadata.get("sampler"),
        "CFG scale": settings.get("guidance_scale"),
        "Seed": settings.get("seed"),
        "Size": f"{size[0]}x{size[1]}",
        "Model": metadata.get("model_id"),
        # It counts the layer at which it stops, from the last one: 1 skips none, and is not told.
        "Clip skip": settings["clip_skip"] + 1 if settings.get("clip_skip") else None,
        "Version": metadata.get("version"),
    }
    lines = [str(metadata.get("prompt") or "")]
    if metadata.get("negative_prompt"):
        lines.append(f"Negative prompt: {metadata['negative_prompt']}")
    lines.append(", ".join(f"{name}: {_value_text(value)}" for name, value in values.items() if value is not None))
    return _storable("\n".join(lines)).strip()


def _value_text(value: Any) -> str:
    """Write a value as AUTOMATIC1111 does: as JSON where it has a character that separates values."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def _storable(text: str) -> str:
    """Replace what image files cannot hold: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
