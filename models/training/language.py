"""The small language of the built-in model: scenes, and the many ways to describe them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black", "cyan", "pink")
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
SIZES = ("small", "medium", "large")
PLACES = ("left", "right", "top", "bottom", "centre")

SIZE_WORDS = {
    "small": ("small", "small", "small", "little", "tiny"),
    "medium": ("", "", "", "", "medium"),
    "large": ("large", "large", "large", "big", "huge"),
}
PLACE_PHRASES = {
    "left": ("on the left", "on the left side", "to the left", "at the left", "left"),
    "right": ("on the right", "on the right side", "to the right", "at the right", "right"),
    "top": ("at the top", "on the top", "in the top", "near the top", "top"),
    "bottom": ("at the bottom", "on the bottom", "in the bottom", "near the bottom", "bottom"),
    "centre": ("", "", "", "", "in the middle", "in the centre", "in the center"),
}
OPENINGS = ("a picture of", "a drawing of", "an image of", "a photo of", "draw", "show me")
STRANGERS = ("nice", "cat", "dog", "beautiful", "photo", "style", "house", "tree", "fluffy", "masterpiece", "detailed")

HELD_OUT_SCENES = 500
_HELD_OUT_SEED = 20_240_501


@dataclass(frozen=True)
class Scene:
    """What one picture shows."""

    shape: str
    colour: str
    background: str
    size: str = "medium"
    place: str = "centre"


@dataclass(frozen=True)
class Mention:
    """The words of a caption for each attribute; an empty string leaves the attribute open."""

    shape: str
    colour: str
    background: str
    size: str
    place: str

    @property
    def thing(self) -> str:
        """The noun phrase without an article: ``large red circle``."""
        return _join(self.size, self.colour, self.shape or "shape")

    @property
    def ground(self) -> str:
        """The background phrase without an article: ``blue background``."""
        return f"{self.background} background" if self.background else ""


def every_scene() -> list[Scene]:
    """All combinations of the language in which shape and background differ in colour, in a fixed order."""
    return [
        Scene(shape, colour, background, size, place)
        for shape, colour, background, size, place in itertools.product(SHAPES, COLOURS, COLOURS, SIZES, PLACES)
        if colour != background
    ]


def split_scenes() -> tuple[list[Scene], list[Scene]]:
    """Scenes to train on, and the 500 scenes that no training picture or caption ever shows."""
    scenes = every_scene()
    random.Random(_HELD_OUT_SEED).shuffle(scenes)
    return scenes[HELD_OUT_SCENES:], scenes[:HELD_OUT_SCENES]


def held_out_captions() -> list[tuple[Scene, str]]:
    """One caption for each held-out scene: its shape and both colours, size and place unless they are the defaults."""
    chance = random.Random(_HELD_OUT_SEED + 1)
    _, held_out = split_scenes()
    return [(scene, phrase(_mention_everything(scene, chance), chance)) for scene in held_out]


def training_caption(scene: Scene, chance: random.Random) -> str:
    """A random caption for a scene; sometimes it leaves attributes open or holds words without meaning.

    Open attributes make a bare word such as ``red`` useful as a negative prompt.
    """
    mention = _mention_everything(scene, chance)
    kind = chance.random()
    if kind < 0.08:
        return _bare_word(mention, chance)
    if kind < 0.25:
        mention = _leave_open(mention, chance)
    caption = phrase(mention, chance)
    if chance.random() < 0.08:
        caption = _with_strangers(caption, chance)
    return caption


def phrase(mention: Mention, chance: random.Random) -> str:
    """Describe a scene in one of the language's ways."""
    caption = chance.choice(_WAYS)(mention, chance)
    if chance.random() < 0.15 and not caption.startswith(("on ", "the ")):
        caption = f"{chance.choice(OPENINGS)} {caption}"
    if chance.random() < 0.25:
        caption = caption.replace(",", "")
    return " ".join(caption.split())


def _on_a_background(mention: Mention, chance: random.Random) -> str:
    place = _join(",", mention.place) if mention.place else ""
    return _join(_article(mention.thing, chance), _prefixed("on", mention.ground, chance), place).replace(" ,", ",")


def _comma_separated(mention: Mention, chance: random.Random) -> str:
    parts = [part for part in (mention.thing, mention.ground, mention.place) if part]
    if chance.random() < 0.5:
        chance.shuffle(parts)
    return ", ".join(parts)


def _colour_after_shape(mention: Mention, chance: random.Random) -> str:
    noun = _article(_join(mention.size, mention.shape or "shape"), chance)
    colour = f", {mention.colour}" if mention.colour else ""
    if mention.place and mention.ground:
        return f"{noun}{colour}, {mention.place} of {_article(mention.ground, chance)}"
    return f"{noun}{colour}" + (
        f", {mention.place}" if mention.place else _comma(_prefixed("on", mention.ground, chance))
    )


def _background_first(mention: Mention, chance: random.Random) -> str:
    start = _prefixed("on", mention.ground, chance)
    return _join(f"{start}," if start else "", _article(mention.thing, chance), mention.place)


def _background_with(mention: Mention, chance: random.Random) -> str:
    start = f"{_article(mention.ground, chance)} with" if mention.ground else ""
    return _join(start, _article(mention.thing, chance), mention.place)


def _sentences(mention: Mention, chance: random.Random) -> str:
    noun = mention.shape or "shape"
    facts = [f"the {noun} is {word}" for word in (mention.colour, mention.size, mention.place) if word]
    if mention.background:
        facts.insert(chance.choice((0, len(facts))), f"the background is {mention.background}")
    return chance.choice((", ", " and ")).join(facts) or _article(noun, chance)


_WAYS = (
    _on_a_background,
    _on_a_background,
    _comma_separated,
    _comma_separated,
    _colour_after_shape,
    _background_first,
    _background_with,
    _sentences,
)


def _mention_everything(scene: Scene, chance: random.Random) -> Mention:
    return Mention(
        shape=scene.shape,
        colour=scene.colour,
        background=scene.background,
        size=chance.choice(SIZE_WORDS[scene.size]),
        place=chance.choice(PLACE_PHRASES[scene.place]),
    )


def _leave_open(mention: Mention, chance: random.Random) -> Mention:
    """Drop colours and shape at random; size and place have defaults, without them a caption means something else."""
    dropped = [name for name in ("shape", "colour", "background") if chance.random() < 0.5]
    return replace(mention, **dict.fromkeys(dropped, ""))


def _bare_word(mention: Mention, chance: random.Random) -> str:
    words = (mention.shape, mention.shape, mention.colour, mention.colour, mention.ground, mention.ground)
    words += (mention.size, mention.place)
    return chance.choice([word for word in words if word])


def _with_strangers(caption: str, chance: random.Random) -> str:
    words = [chance.choice(STRANGERS) for _ in range(chance.randint(1, 2))]
    return f"{caption}, {' '.join(words)}" if chance.random() < 0.5 else f"{' '.join(words)} {caption}"


def _article(noun: str, chance: random.Random) -> str:
    article = "an" if noun[:1] in "aeiou" else "a"
    return f"{chance.choice((article, article, 'the'))} {noun}" if noun else ""


def _prefixed(preposition: str, ground: str, chance: random.Random) -> str:
    return f"{preposition} {_article(ground, chance)}" if ground else ""


def _comma(words: str) -> str:
    return f", {words}" if words else ""


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def vocabulary() -> Sequence[str]:
    """Every word of the language, sorted: each becomes one token."""
    chance = random.Random(0)
    words = set(STRANGERS)
    for scene in every_scene():
        for _ in range(4):
            words.update(phrase(_mention_everything(scene, chance), chance).replace(",", " ").split())
    return sorted(words)
