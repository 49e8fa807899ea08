import random
from collections import Counter
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.training.drawing import PALETTE, draw, draw_coverage
from models.training.judge import Verdict, judge, name_colour
from models.training.language import COLOURS, PLACES, SHAPES, SIZES, Scene, every_scene

ATTRIBUTES = ("shape", "colour", "background", "place")
NOTHING = Verdict()

Picture = NDArray[np.uint8]


def sample_scenes() -> list[Scene]:
    scenes = random.Random(11).sample(every_scene(), 200)
    assert {scene.shape for scene in scenes} == set(SHAPES)
    assert {(scene.size, scene.place) for scene in scenes} == {(size, place) for size in SIZES for place in PLACES}
    assert {scene.colour for scene in scenes} == {scene.background for scene in scenes} == set(COLOURS)
    return scenes


@cache
def drawn() -> list[tuple[Scene, Picture]]:
    chance = random.Random(12)
    return [(scene, draw(scene, chance)) for scene in sample_scenes()]


def shares_right(pairs: list[tuple[Scene, Picture]]) -> dict[str, float]:
    right: Counter[str] = Counter()
    for scene, picture in pairs:
        verdict = judge(picture)
        right.update(name for name in ATTRIBUTES if getattr(verdict, name) == getattr(scene, name))
    return {name: right[name] / len(pairs) for name in ATTRIBUTES}


def softened(picture: Picture, chance: random.Random, noise: np.random.Generator) -> Picture:
    blurred = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(chance.uniform(1.0, 1.5)))
    return np.clip(np.rint(np.asarray(blurred) + noise.normal(0, 8, picture.shape)), 0, 255).astype(np.uint8)


def paint(background: str, *things: tuple[str, NDArray[np.float32]]) -> Picture:
    picture = np.full((64, 64, 3), PALETTE[background], np.float32)
    for colour, coverage in things:
        picture += (np.array(PALETTE[colour], np.float32) - picture) * coverage[..., None]
    return np.rint(picture).astype(np.uint8)


def box(left: int, top: int, right: int, bottom: int) -> NDArray[np.float32]:
    coverage = np.zeros((64, 64), np.float32)
    coverage[top:bottom, left:right] = 1
    return coverage


def test_drawn_scenes_are_told() -> None:
    assert min(shares_right(drawn()).values()) >= 0.999


def test_blurred_noisy_scenes_are_told() -> None:
    chance, noise = random.Random(13), np.random.default_rng(13)
    pairs = [(scene, softened(picture, chance, noise)) for scene, picture in drawn()]

    assert min(shares_right(pairs).values()) >= 0.99


def test_each_shape_of_each_size_is_told_at_each_place() -> None:
    chance = random.Random(14)
    for shape in SHAPES:
        for size in SIZES:
            for place in PLACES:
                scene = Scene(shape, "red", "white", size, place)
                assert judge(draw(scene, chance)) == Verdict(shape, "red", "white", place), scene


@pytest.mark.parametrize("colour", COLOURS)
def test_blank_picture_has_a_background_only(colour: str) -> None:
    assert judge(paint(colour)) == Verdict(background=colour)


def test_noise_shows_nothing() -> None:
    chance = np.random.default_rng(15)
    for _ in range(10):
        assert judge(chance.integers(0, 256, (64, 64, 3), dtype=np.uint8)) == NOTHING
        assert judge(np.clip(chance.normal(128, 60, (64, 64, 3)), 0, 255).astype(np.uint8)) == NOTHING


def test_gradient_shows_nothing() -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)

    assert judge(np.broadcast_to(ramp[None, :, None], (64, 64, 3)).copy()) == NOTHING


def test_grey_is_no_colour_of_the_palette() -> None:
    assert name_colour(np.array((128, 128, 128), np.float32)) is None
    assert judge(np.full((64, 64, 3), 128, np.uint8)) == NOTHING


@pytest.mark.parametrize(
    "things",
    [
        [("red", draw_coverage("circle", 10, 15, 32)), ("red", draw_coverage("circle", 10, 48, 32))],
        [("red", draw_coverage("circle", 10, 15, 32)), ("white", draw_coverage("star", 10, 48, 32))],
        [("red", draw_coverage("circle", 18, 21, 32)), ("red", draw_coverage("star", 10, 52, 32))],
        [("black", draw_coverage("circle", 12, 15, 32)), ("cyan", draw_coverage("square", 10, 48, 32))],
        [("red", draw_coverage("circle", 15, 26, 32)), ("white", draw_coverage("square", 12, 40, 32))],
        [("red", draw_coverage("circle", 20, 32, 32)), ("white", draw_coverage("star", 12, 32, 32))],
    ],
    ids=["alike", "apart", "unequal", "faint second", "overlapping", "inside"],
)
def test_two_things_are_not_one_shape(things: list[tuple[str, NDArray[np.float32]]]) -> None:
    assert judge(paint("blue", *things)) == Verdict(background="blue")


@pytest.mark.parametrize(
    "coverage",
    [
        box(4, 30, 60, 34),
        box(14, 26, 50, 38),
        box(17, 22, 47, 42),
        draw_coverage("triangle", 15, 32, 32)[::-1],
        draw_coverage("square", 18, 32, 32) - draw_coverage("square", 12, 32, 32),
        np.maximum(draw_coverage("circle", 12, 22, 32), draw_coverage("square", 12, 40, 32)),
        draw_coverage("circle", 29, 32, 32),
    ],
    ids=["line", "bar", "oblong", "upside down", "frame", "grown together", "huge"],
)
def test_shape_of_another_language_has_no_name(coverage: NDArray[np.float32]) -> None:
    assert judge(paint("blue", ("red", coverage))) == Verdict(None, "red", "blue", "centre")


def test_speck_is_no_shape_and_spoils_none() -> None:
    speck = draw_coverage("circle", 3, 10, 10)

    assert judge(paint("blue", ("red", speck))) == Verdict(background="blue")
    picture = paint("blue", ("red", draw_coverage("cross", 15, 32, 32)), ("red", speck), ("white", speck[::-1]))
    assert judge(picture) == Verdict("cross", "red", "blue", "centre")


def test_corner_has_no_name() -> None:
    assert judge(paint("blue", ("red", draw_coverage("circle", 10, 14, 14)))) == Verdict("circle", "red", "blue", None)


def test_flipping_a_picture_flips_its_place() -> None:
    for place, flipped in (("left", "right"), ("right", "left"), ("top", "top"), ("centre", "centre")):
        picture = draw(Scene("star", "yellow", "purple", "large", place), random.Random(16))
        assert judge(picture[:, ::-1].copy()).place == flipped


def test_picture_is_left_as_it_was() -> None:
    _, picture = drawn()[0]
    before = picture.copy()
    judge(picture)

    assert np.array_equal(picture, before)


@pytest.mark.parametrize("shape", [(32, 32, 3), (64, 64), (64, 64, 4)])
def test_other_sizes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="64, 64, 3"):
        judge(np.zeros(shape, np.uint8))
