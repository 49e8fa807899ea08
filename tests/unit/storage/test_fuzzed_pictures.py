"""Whatever a file of a picture holds, its decoders end, with a picture or with what they promise to raise."""

from __future__ import annotations

import pytest

from tests.support.picture_corpus import case
from tests.support.picture_corpus.decoders import PROMISED, decoders

CASES, PARTS = 40_000, 20  # some 40 seconds of one core
MOST_PIXELS = 2**20


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.filterwarnings("ignore")
def test_no_file_makes_a_decoder_raise_what_it_does_not_promise(part):
    unpromised = []
    for number in range(part, CASES, PARTS):
        made = case(number)
        for name, decode in decoders(MOST_PIXELS).items():
            try:
                decode(made.content)
            except PROMISED:
                pass
            except Exception as error:
                unpromised.append(f"case {number}, {made.name}, {name}: {error!r}")
    assert not unpromised


def test_a_case_is_the_same_each_time():
    assert [case(number, seed=5) for number in range(300)] == [case(number, seed=5) for number in range(300)]
    assert case(299, seed=5) != case(299, seed=6)
