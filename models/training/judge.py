"""Recognises what a picture shows by its pixels alone, to measure how well the built-in model follows its captions.

A verdict never sees the caption: the background is read off the border, the shape's coverage is taken apart from it,
and the coverage is compared with every shape the language can draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.training import drawing
from models.training.drawing import PALETTE, RADII, RESOLUTION, draw_coverage
from models.training.language import SHAPES

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]

_NAMES = tuple(PALETTE)
_COLOURS = np.array([PALETTE[name] for name in _NAMES], np.float32)
_BORDER = 2
_CONTRAST = 38.0  # half the distance of the closest two palette colours, yellow and orange
_FARTHEST_NAMED = 75.0  # middle grey, the mean of noise, is 80 from its nearest palette colour
_PEAK_SHARE = 0.01  # well below the 3.5 % of the picture that the smallest star covers
_LEAST_AREA = 70  # pixels: half of the smallest star
_MOST_BESIDES = 45  # pixels: half of what erosion leaves of the smallest star, so less is no second shape
_LEAST_OVERLAP = 0.78  # intersection over union
_RADIUS_STEP = 1.04
_SHIFTS = (-1 / 3, 0.0, 1 / 3)
_BLURS = (0.0, 1.0, 1.8)  # deviations in pixels


@dataclass(frozen=True)
class Verdict:
    """What a picture shows; None where it cannot be recognised."""

    shape: str | None = None
    colour: str | None = None
    background: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class _Templates:
    """Drawn shapes in the middle of a picture, ordered by area."""

    shapes: list[str]
    areas: Pixels
    coverages: Pixels


def judge(picture: NDArray[np.uint8]) -> Verdict:
    """Recognise shape, colours and place in the pixels.

    Args:
        picture: RGB values of shape (64, 64, 3).

    Returns:
        The verdict. Colour, shape and place are None unless the picture shows exactly one thing on a plain background.

    Raises:
        ValueError: The picture has another shape.
    """
    if picture.shape != (RESOLUTION, RESOLUTION, 3):
        raise ValueError(f"a picture has the shape (64, 64, 3), not {picture.shape}")
    pixels = picture.astype(np.float32)
    ground = _ground_colour(pixels)
    background = None if ground is None else name_colour(ground)
    if ground is None or background is None:
        return Verdict()
    figure = _figure_colour(pixels, ground)
    coverage = None if figure is None else _coverage_of_one_thing(pixels, ground, figure)
    if figure is None or coverage is None:
        return Verdict(background=background)
    x, y = _centroid(coverage)
    return Verdict(
        shape=_name_shape(coverage, x, y),
        colour=name_colour(figure),
        background=background,
        place=_name_place(x, y),
    )


def name_colour(colour: Pixels) -> str | None:
    """Return the palette colour nearest in RGB, or None where none is near.

    Args:
        colour: Red, green and blue in 0..255, of shape (3,).
    """
    distances = np.linalg.norm(_COLOURS - colour, axis=1)
    nearest = int(distances.argmin())
    return _NAMES[nearest] if distances[nearest] <= _FARTHEST_NAMED else None


def _ground_colour(pixels: Pixels) -> Pixels | None:
    """The median of the border, if most of the border is of that colour."""
    is_border = np.ones((RESOLUTION, RESOLUTION), bool)
    is_border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    border = pixels[is_border]
    median = np.asarray(np.median(border, axis=0), np.float32)
    is_plain = (np.linalg.norm(border - median, axis=1) < _CONTRAST).mean() > 0.75
    return median if is_plain else None


def _figure_colour(pixels: Pixels, ground: Pixels) -> Pixels | None:
    """The median of the pixels well inside whatever stands out most from the background."""
    contrast = np.linalg.norm(pixels - ground, axis=2)
    peak = np.quantile(contrast, 1 - _PEAK_SHARE)
    if peak < _CONTRAST:
        return None
    is_figure = contrast > peak / 2
    inner = _erode(is_figure)
    return np.asarray(np.median(pixels[inner if inner.any() else is_figure], axis=0), np.float32)


def _coverage_of_one_thing(pixels: Pixels, ground: Pixels, figure: Pixels) -> Pixels | None:
    """How much of each pixel the only thing covers, or None if there is no thing, or more than one.

    A pixel's coverage is where it stands on the line from the background's colour to the shape's, so soft edges keep
    their area.
    """
    line = figure - ground
    share = np.clip((pixels - ground) @ line / (line @ line), 0, 1)[..., None]
    unexplained = np.linalg.norm(pixels - ground - share * line, axis=2) > _CONTRAST
    covered = share[..., 0]
    largest = _largest_part(covered > 0.5)
    # Eroding forgives the halo around a shape that is not quite sharp, and specks.
    besides = _erode(unexplained | ((covered > 0.5) & ~largest))
    if largest.sum() < _LEAST_AREA or besides.sum() > _MOST_BESIDES:
        return None
    return np.asarray(covered * _grow(_grow(largest)), np.float32)


def _name_shape(coverage: Pixels, x: float, y: float) -> str | None:
    """The shape whose drawing overlaps most with the coverage around its centroid.

    All shapes of the language are drawn around their centroid, so only fractions of a pixel are left to try.
    """
    templates = _templates()
    middle = RESOLUTION // 2
    column, row = round(x) - middle, round(y) - middle
    centred = np.pad(coverage, middle)[middle + row :, middle + column :][:RESOLUTION, :RESOLUTION]
    area = float(centred.sum())
    # The overlap is at most the smaller area over the larger one, so other areas cannot reach the least overlap.
    start, end = np.searchsorted(templates.areas, (area * _LEAST_OVERLAP, area / _LEAST_OVERLAP))
    if start == end:
        return None
    common = np.minimum(templates.coverages[start:end], centred).sum(axis=(1, 2))
    overlaps = common / (templates.areas[start:end] + area - common)
    best = int(overlaps.argmax())
    return templates.shapes[start + best] if overlaps[best] >= _LEAST_OVERLAP else None


@cache
def _templates() -> _Templates:
    smallest, largest = RADII["small"] * 0.88, RADII["large"] * 1.12
    radii = smallest * _RADIUS_STEP ** np.arange(np.log(largest / smallest) / np.log(_RADIUS_STEP))
    middle = RESOLUTION / 2
    spreads = [_gaussian_spread(deviation) for deviation in _BLURS]
    drawn = [
        (shape, spread @ coverage @ spread)
        for shape in SHAPES
        for radius in radii
        for right in _SHIFTS
        for down in _SHIFTS
        for coverage in [draw_coverage(shape, float(radius), middle + right, middle + down)]
        for spread in spreads
    ]
    drawn.sort(key=lambda template: float(template[1].sum()))
    coverages = np.array([coverage for _, coverage in drawn], np.float32)
    areas = np.asarray(coverages.sum(axis=(1, 2)), np.float32)
    return _Templates([shape for shape, _ in drawn], areas, coverages)


def _gaussian_spread(deviation: float) -> Pixels:
    """The symmetric matrix of shape (64, 64) that blurs the columns of a picture, or none of them for no deviation.

    It drops what would be spread beyond the edges, where a template is empty.
    """
    if not deviation:
        return np.eye(RESOLUTION, dtype=np.float32)
    rows = np.arange(RESOLUTION)
    weights = np.exp(-0.5 * ((rows[:, None] - rows) / deviation) ** 2)
    return np.asarray(weights / (deviation * np.sqrt(2 * np.pi)), np.float32)


def _centroid(coverage: Pixels) -> tuple[float, float]:
    """In pixels from the left and from the top edge."""
    middles = np.arange(RESOLUTION) + 0.5
    total = coverage.sum()
    return float(coverage.sum(axis=0) @ middles / total), float(coverage.sum(axis=1) @ middles / total)


def _name_place(x: float, y: float) -> str | None:
    """The side that the centroid is on, or None for a corner."""
    right, down = x - RESOLUTION / 2, y - RESOLUTION / 2
    least = _least_offset()
    if abs(right) >= least and abs(down) >= least:
        return None
    if abs(right) >= least:
        return "right" if right > 0 else "left"
    if abs(down) >= least:
        return "bottom" if down > 0 else "top"
    return "centre"


@cache
def _least_offset() -> float:
    """Pixels from the middle at which a shape is on a side.

    Halfway between the farthest a shape in the middle is drawn and the nearest that a large shape on a side is.
    """
    largest = RADII["large"] * (1 + drawing._RADIUS_JITTER)
    nearest = RESOLUTION / 2 - drawing._MARGIN - 1.08 * largest - drawing._PLACE_JITTER
    return (drawing._PLACE_JITTER + nearest) / 2


def _largest_part(mask: Mask) -> Mask:
    """The connected part of most pixels; pixels touch at their sides."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        grown = np.where(mask, _neighbours(labels).max(axis=0), 0)
        if np.array_equal(grown, labels):
            break
        labels = grown
    sizes = np.bincount(labels[mask], minlength=2)
    return np.asarray(mask & (labels == sizes.argmax()), np.bool_)


def _erode(mask: Mask) -> Mask:
    return np.asarray(_neighbours(mask).all(axis=0), np.bool_)


def _grow(mask: Mask) -> Mask:
    return np.asarray(_neighbours(mask).any(axis=0), np.bool_)


def _neighbours(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Each pixel and its four neighbours, of shape (5, 64, 64); beyond the edges is zero."""
    padded = np.pad(values, 1)
    return np.stack([values, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
