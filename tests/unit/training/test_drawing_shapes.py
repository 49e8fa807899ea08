import random
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from models.training.drawing import PALETTE, RADII, RESOLUTION, draw, draw_coverage
from models.training.language import COLOURS, PLACES, SHAPES, SIZES, Scene

MIDDLE = RESOLUTION / 2


def centroid(coverage: NDArray[np.float32]) -> tuple[float, float]:
    middles = np.arange(RESOLUTION) + 0.5
    return float(coverage.sum(0) @ middles / coverage.sum()), float(coverage.sum(1) @ middles / coverage.sum())


def coverage_of(scene: Scene, chance: random.Random) -> NDArray[np.float32]:
    picture = draw(scene, chance).astype(np.float32)
    background, colour = (np.array(PALETTE[name], np.float32) for name in (scene.background, scene.colour))
    return (picture - background) @ (colour - background) / ((colour - background) @ (colour - background))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", PLACES)
def test_shapes_are_inside_the_picture(shape: str, size: str, place: str) -> None:
    chance = random.Random(1)
    for _ in range(20):
        coverage = coverage_of(Scene(shape, "white", "black", size, place), chance)
        # A pixel's width is all that a shape may lose at the edges of the picture.
        edges = np.concatenate([coverage[0], coverage[-1], coverage[:, 0], coverage[:, -1]])
        assert edges.sum() < 3


@pytest.mark.parametrize("shape", SHAPES)
def test_larger_sizes_cover_more_whatever_the_jitter(shape: str) -> None:
    chance = random.Random(2)
    areas = [
        [coverage_of(Scene(shape, "white", "black", size), chance).sum() for _ in range(30)]
        for size in ("small", "medium", "large")
    ]

    assert all(max(smaller) < min(larger) for smaller, larger in pairwise(areas))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_places_are_where_their_words_say(shape: str, size: str) -> None:
    chance = random.Random(3)
    for _ in range(10):
        offsets = {
            place: np.subtract(centroid(coverage_of(Scene(shape, "white", "black", size, place), chance)), MIDDLE)
            for place in PLACES
        }
        assert offsets["left"][0] < -4
        assert offsets["right"][0] > 4
        assert offsets["top"][1] < -4
        assert offsets["bottom"][1] > 4
        assert np.abs(offsets["centre"]).max() < 2
        assert max(abs(offsets[place][1]) for place in ("left", "right")) < 2
        assert max(abs(offsets[place][0]) for place in ("top", "bottom")) < 2


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_drawn_around_their_centroid(shape: str) -> None:
    for radius in RADII.values():
        assert centroid(draw_coverage(shape, radius, 31.3, 32.8)) == pytest.approx((31.3, 32.8), abs=0.2)


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_antialiased(shape: str) -> None:
    coverage = draw_coverage(shape, RADII["medium"], 32.3, 31.6)

    assert coverage.dtype == np.float32
    assert coverage.shape == (RESOLUTION, RESOLUTION)
    assert (coverage.min(), coverage.max()) == (0, 1)
    assert ((coverage > 0.05) & (coverage < 0.95)).sum() > 30


def test_area_of_a_circle_is_that_of_the_formula() -> None:
    assert draw_coverage("circle", 15, 32.2, 31.9).sum() == pytest.approx(np.pi * 15**2, rel=0.005)
    assert draw_coverage("square", 15, 32.2, 31.9).sum() == pytest.approx((2 * 0.88 * 15) ** 2, rel=0.01)


def test_ring_is_open_and_star_has_five_points() -> None:
    ring, star = draw_coverage("ring", 15, 32, 32), draw_coverage("star", 20, 32, 32)
    angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    around = star[(32 + 16 * np.sin(angles)).astype(int), (32 + 16 * np.cos(angles)).astype(int)] > 0.5

    assert ring[30:34, 30:34].max() == 0
    assert np.count_nonzero(around & ~np.roll(around, 1)) == 5


def test_colours_are_those_of_the_palette() -> None:
    assert set(PALETTE) == set(COLOURS)
    for colour, background in zip(COLOURS, COLOURS[1:] + COLOURS[:1], strict=True):
        picture = draw(Scene("square", colour, background), random.Random(4))
        assert picture.dtype == np.uint8
        assert tuple(picture[32, 32]) == PALETTE[colour]
        assert tuple(picture[0, 0]) == PALETTE[background]


def test_drawings_are_seeded() -> None:
    scene = Scene("cross", "pink", "green", "small", "top")

    assert np.array_equal(draw(scene, random.Random(5)), draw(scene, random.Random(5)))
    assert not np.array_equal(draw(scene, random.Random(5)), draw(scene, random.Random(6)))
