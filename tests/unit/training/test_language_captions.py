import random
from dataclasses import replace
from itertools import pairwise

from models.training.language import (
    COLOURS,
    PLACE_PHRASES,
    PLACES,
    SHAPES,
    SIZE_WORDS,
    SIZES,
    STRANGERS,
    Mention,
    Scene,
    held_out_captions,
    phrase,
    training_caption,
)

SCENE = Scene("star", "orange", "cyan", "large", "left")


def words_of(caption: str) -> list[str]:
    return caption.replace(",", " ").split()


def training_captions(scene: Scene, count: int) -> list[str]:
    chance = random.Random(5)
    return [training_caption(scene, chance) for _ in range(count)]


def test_held_out_captions_name_shape_and_both_colours_and_no_others() -> None:
    for scene, caption in held_out_captions():
        named = {*SHAPES, *COLOURS} & set(words_of(caption))
        assert named == {scene.shape, scene.colour, scene.background}


def test_held_out_captions_name_every_size_and_place_but_the_defaults() -> None:
    for scene, caption in held_out_captions():
        padded = f" {' '.join(words_of(caption))} "
        named_size = [size for size in SIZES if any(f" {word} " in padded for word in SIZE_WORDS[size] if word)]
        named_place = [
            place for place in PLACES if any(f" {words} " in padded for words in PLACE_PHRASES[place] if words)
        ]
        assert named_size == [scene.size] or (scene.size == "medium" and not named_size)
        assert named_place == [scene.place] or (scene.place == "centre" and not named_place)


def test_held_out_captions_hold_no_words_without_meaning() -> None:
    openings = {"photo"}
    for _, caption in held_out_captions():
        assert not (set(STRANGERS) - openings) & set(words_of(caption))


def test_captions_are_seeded() -> None:
    assert training_captions(SCENE, 50) == training_captions(SCENE, 50)
    assert held_out_captions() == held_out_captions()


def test_there_are_many_ways_of_saying_one_scene() -> None:
    assert len(set(training_captions(SCENE, 500))) > 200


def test_captions_are_tidy() -> None:
    for caption in [*training_captions(SCENE, 500), *(caption for _, caption in held_out_captions())]:
        assert caption == caption.strip()
        assert caption
        assert "  " not in caption
        assert " ," not in caption
        assert ",," not in caption


def test_captions_never_name_another_colour_or_shape() -> None:
    others = {*COLOURS, *SHAPES} - {SCENE.shape, SCENE.colour, SCENE.background}
    assert not any(others & set(words_of(caption)) for caption in training_captions(SCENE, 1000))


def test_some_captions_leave_colours_open_and_some_are_one_word() -> None:
    captions = training_captions(SCENE, 1000)

    assert 0.05 < sum(len(words_of(caption)) <= 2 for caption in captions) / 1000 < 0.2
    assert 0.05 < sum(SCENE.colour not in words_of(caption) for caption in captions) / 1000 < 0.25


def test_a_mention_of_nothing_is_still_a_caption() -> None:
    chance = random.Random(6)
    for _ in range(200):
        assert "shape" in words_of(phrase(Mention("", "", "", "", ""), chance))


def test_articles_agree() -> None:
    chance = random.Random(7)
    captions = [training_caption(replace(SCENE, size="medium"), chance) for _ in range(1000)]

    assert any("an orange" in caption for caption in captions)
    for caption in captions:
        words = words_of(caption)
        for article, noun in pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (noun[0] in "aeiou"), caption
