"""The models of the fake service, and its pictures."""

from __future__ import annotations

import colorsys
import io
from typing import Any

from PIL import Image, ImageDraw

from deployments.doctor.finding import POINTER

PICTURE_SIZE = 64
PREVIEW_SIZE = 8

MODELS: dict[str, dict[str, Any]] = {
    "shapes": {
        "id": "shapes",
        "repo": "shapes",
        "description": "The small model that comes with CyberImage: coloured shapes, 64 by 64 pixels.",
        "source": "builtin",
        "type": "image",
        "step_config": {"steps": {"min": 4, "max": 50, "default": 20}},
        "size": {
            "default_width": 64,
            "default_height": 64,
            "multiple_of": 64,
            "minimum": 64,
            "maximum": 64,
            "max_pixels": 4096,
        },
        "guidance": {"min": 1.0, "max": 12.0, "default": 4.0},
        "max_prompt_characters": 2000,
        "max_images": 8,
        "schedulers": ["DDIMScheduler", "EulerDiscreteScheduler"],
        "tasks": ["text2image", "image2image", "inpaint"],
        "max_batch": 8,
        "state": "ready",
        "reason": "",
        "replicas": 1,
    },
    "sprint": {
        "id": "sprint",
        "repo": "example/sprint",
        "description": "Two steps, always.",
        "source": "huggingface",
        "type": "image",
        "step_config": {"fixed_steps": 2},
        "size": {
            "default_width": 1024,
            "default_height": 768,
            "multiple_of": 32,
            "minimum": 256,
            "maximum": 1536,
            "max_pixels": 1048576,
        },
        "guidance": {"min": 4.5, "max": 4.5, "default": 4.5},
        "max_images": 2,
        "max_sequence_length": 300,
        "tasks": ["text2image"],
        "max_batch": 4,
        "state": "unavailable",
        "reason": "Its weights are not complete; fetch them again.",
        "hint": POINTER,
    },
}


def draw(size: int = PICTURE_SIZE, hue: int = 0) -> bytes:
    """A PNG of a disc; the hue, in degrees, tells pictures apart."""
    ground, figure = ((_rgb(hue + shift, value)) for shift, value in ((220, 0.75), (0, 0.9)))
    picture = Image.new("RGB", (size, size), ground)
    ImageDraw.Draw(picture).ellipse((size * 0.2, size * 0.2, size * 0.8, size * 0.8), fill=figure)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _rgb(hue: int, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, 0.75, value)
    return round(255 * red), round(255 * green), round(255 * blue)
