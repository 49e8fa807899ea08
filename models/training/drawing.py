"""Draws a scene: flat colours, one antialiased shape, from signed distances.

The distance formulas are the usual two-dimensional ones, see https://iquilezles.org/articles/distfunctions2d/.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.training.language import Scene

RESOLUTION = 64
RADII = {"small": 10.5, "medium": 15.0, "large": 20.0}
PALETTE = {
    "red": (220, 40, 40),
    "green": (40, 160, 70),
    "blue": (45, 80, 210),
    "yellow": (245, 215, 50),
    "purple": (130, 60, 170),
    "orange": (245, 140, 30),
    "white": (250, 250, 250),
    "black": (20, 20, 20),
    "cyan": (60, 205, 220),
    "pink": (245, 150, 190),
}
_MARGIN = 2.0
_PLACE_JITTER = 1.5
_RADIUS_JITTER = 0.06

Distances = NDArray[np.float32]


def draw(scene: Scene, chance: random.Random) -> NDArray[np.uint8]:
    """Draw a scene with a little jitter in position and size.

    Returns:
        An RGB image of shape (64, 64, 3).
    """
    radius = RADII[scene.size] * (1 + chance.uniform(-_RADIUS_JITTER, _RADIUS_JITTER))
    centre_x, centre_y = _centre(scene.place, radius, chance)
    coverage = draw_coverage(scene.shape, radius, centre_x, centre_y)[..., None]
    colour, background = (np.array(PALETTE[name], np.float32) for name in (scene.colour, scene.background))
    return np.rint(background + (colour - background) * coverage).astype(np.uint8)


def draw_coverage(shape: str, radius: float, centre_x: float, centre_y: float) -> Distances:
    """Return how much of each pixel a shape covers.

    Args:
        shape: One of the language's shapes.
        radius: In pixels.
        centre_x: In pixels from the left edge.
        centre_y: In pixels from the top edge.

    Returns:
        Values in 0..1 of shape (64, 64).
    """
    pixels = np.arange(RESOLUTION, dtype=np.float32) + 0.5
    x, y = np.meshgrid(pixels - centre_x, pixels - centre_y)
    return np.clip(0.5 - _DISTANCES[shape](x, y, radius), 0, 1).astype(np.float32)


def _centre(place: str, radius: float, chance: random.Random) -> tuple[float, float]:
    middle, near = RESOLUTION / 2, radius * 1.08 + _MARGIN
    far = RESOLUTION - near
    x = {"left": near, "right": far}.get(place, middle)
    y = {"top": near, "bottom": far}.get(place, middle)
    return x + chance.uniform(-_PLACE_JITTER, _PLACE_JITTER), y + chance.uniform(-_PLACE_JITTER, _PLACE_JITTER)


def _circle(x: Distances, y: Distances, radius: float) -> Distances:
    return np.hypot(x, y) - radius


def _square(x: Distances, y: Distances, radius: float) -> Distances:
    return np.maximum(np.abs(x), np.abs(y)) - 0.88 * radius


def _triangle(x: Distances, y: Distances, radius: float) -> Distances:
    inradius = 0.58 * radius
    slanted = np.abs(x) * np.float32(np.sin(np.pi / 3)) - y * np.float32(np.cos(np.pi / 3))
    return np.maximum(slanted, y) - inradius


def _star(x: Distances, y: Distances, radius: float) -> Distances:
    sector = np.pi / 5
    outer, inner = 1.08 * radius, 0.48 * radius
    angle = np.abs((np.arctan2(x, -y) + sector) % (2 * sector) - sector)
    along, across = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    edge = np.array((inner * np.cos(sector) - outer, inner * np.sin(sector)))
    normal = np.array((edge[1], -edge[0])) / np.hypot(*edge)
    return ((along - outer) * normal[0] + across * normal[1]).astype(np.float32)


def _ring(x: Distances, y: Distances, radius: float) -> Distances:
    return np.abs(np.hypot(x, y) - 0.76 * radius) - 0.24 * radius


def _cross(x: Distances, y: Distances, radius: float) -> Distances:
    arm = 0.32 * radius
    upright = np.maximum(np.abs(x) - arm, np.abs(y) - radius)
    level = np.maximum(np.abs(x) - radius, np.abs(y) - arm)
    return np.minimum(upright, level)


_DISTANCES: dict[str, Callable[[Distances, Distances, float], Distances]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}
