"""Picture files of every kind, broken by rule: the same number and seed give the same file.

The first cases are the seeds as they are; those after them have been changed once or a few times, or are put together
of two. A case's name says what was done, so that a failure can be understood, and repeated by its number.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.support.picture_corpus.mutations import mutations_of, spliced
from tests.support.picture_corpus.seeds import seeds


@dataclass(frozen=True)
class Case:
    """A file.

    Attributes:
        name: Which seed it comes from, and what was done to it.
        content: Its bytes.
    """

    name: str
    content: bytes


def case(number: int, seed: int = 0) -> Case:
    """Make a case.

    Args:
        number: From 0.
        seed: Of chance.
    """
    found = seeds()
    names = list(found)
    if number < len(names):
        return Case(names[number], found[names[number]])
    chance = random.Random(f"{seed}:{number}")
    # Every seed in its turn, as chance would leave some out.
    name = names[number % len(names)]
    content = found[name]
    if chance.random() < 0.05:
        other = chance.choice(names)
        return Case(f"{name} spliced {other}", spliced(content, found[other], chance))
    for _ in range(chance.choice((1, 1, 2, 3))):
        mutation = chance.choice(mutations_of(content))
        content, name = mutation(content, chance), f"{name} {mutation.__name__}"
    return Case(name, content)
