"""Head starts favour what is nearly done, and are bounded."""

import pytest

from deployments.engine.head_starts import HeadStarts


def of_images(*seconds: float) -> HeadStarts:
    made = HeadStarts()
    for each in seconds:
        made.note(each)
    return made


def test_there_is_none_before_anything_is_known():
    assert HeadStarts().of(5.0) == 0.0


def test_the_less_is_left_the_longer_it_is():
    starts = of_images(10.0, 20.0)
    given = [starts.of(left) for left in (0.0, 1.0, 5.0, 10.0, 20.0, 1000.0)]
    assert given == sorted(given, reverse=True)
    assert given[-1] == pytest.approx(0.0, abs=1e-9)


def test_it_is_bounded_by_some_usual_images():
    assert of_images(10.0).of(0.0) < 10 * 10.0


def test_it_is_in_proportion_to_what_images_take():
    assert of_images(40.0, 80.0).of(8.0) == pytest.approx(4 * of_images(10.0, 20.0).of(2.0))


def test_long_images_are_met_more_often_than_short_ones():
    assert of_images(1.0, 1.0, 10.0).usual_seconds == pytest.approx(102 / 12, rel=0.02)


def test_what_was_long_ago_is_forgotten():
    assert of_images(1000.0, *[1.0] * 2000).usual_seconds == pytest.approx(1.0, rel=0.01)
