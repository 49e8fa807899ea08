import hashlib
import json
from collections import Counter
from dataclasses import astuple

from models.training.language import COLOURS, SHAPES, every_scene, held_out_captions, split_scenes


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def test_every_combination_occurs_once() -> None:
    scenes = every_scene()

    assert len(scenes) == len(set(scenes)) == 6 * 10 * 9 * 3 * 5
    assert all(scene.colour != scene.background for scene in scenes)


def test_held_out_scenes_are_never_trained_on() -> None:
    training, held_out = split_scenes()

    assert len(held_out) == len(set(held_out)) == 500
    assert not set(training) & set(held_out)
    assert set(training) | set(held_out) == set(every_scene())


def test_held_out_scenes_are_the_ones_the_model_was_trained_without() -> None:
    _, held_out = split_scenes()

    assert digest([astuple(scene) for scene in held_out]) == "a82e1a5897cd387c"


def test_held_out_captions_are_the_ones_measured() -> None:
    assert digest([caption for _, caption in held_out_captions()]) == "c8c782041143a704"


def test_held_out_captions_follow_the_held_out_scenes() -> None:
    assert [scene for scene, _ in held_out_captions()] == split_scenes()[1]


def test_every_shape_and_colour_is_trained_and_held_out() -> None:
    for scenes in split_scenes():
        assert Counter(scene.shape for scene in scenes).keys() == set(SHAPES)
        assert Counter(scene.colour for scene in scenes).keys() == set(COLOURS)
        assert Counter(scene.background for scene in scenes).keys() == set(COLOURS)
