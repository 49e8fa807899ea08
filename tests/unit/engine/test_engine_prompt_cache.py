"""The same prompt passes through its text encoder once, and what is kept is bounded and nobody else's to change."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from deployments.engine.encodings import EncodingCache
from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_stable_diffusion

WAIT = 120


def request(**changes) -> ImageRequest:
    values = {"prompt": "a ring", "num_inference_steps": 2, "guidance_scale": 3.0, "width": 16, "height": 16, "seed": 1}
    return image_request(**(values | changes))


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(tiny_stable_diffusion(), max_batch=8, costs=FixedCosts())
    yield engine
    engine.stop(WAIT)


def encoder_calls(engine: Engine) -> int:
    return sum(count for (owner, _), count in engine.statistics.forwards.items() if owner == "CLIPTextModel")


def test_a_prompt_that_was_encoded_is_not_encoded_again(engine):
    first = engine.submit(request()).future.result(WAIT)
    calls = encoder_calls(engine)
    second = engine.submit(request()).future.result(WAIT)
    assert encoder_calls(engine) == calls
    assert engine.statistics.cached_encodings == 2  # prompt and negative prompt
    assert np.array_equal(first, second)


def test_another_prompt_is_encoded(engine):
    engine.submit(request()).future.result(WAIT)
    calls = encoder_calls(engine)
    engine.submit(request(prompt="a star")).future.result(WAIT)
    assert encoder_calls(engine) == calls + 1


def test_pictures_from_kept_encodings_are_those_of_the_stock_pipeline():
    pipeline = tiny_stable_diffusion()
    expected = draw_image(pipeline, request(seed=3))
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    engine.submit(request()).future.result(WAIT)
    picture = engine.submit(request(seed=3)).future.result(WAIT)
    engine.stop(WAIT)
    assert np.abs(picture - expected).max() <= 1e-4


def test_a_deterministic_image_takes_only_what_was_encoded_without_company(engine):
    engine.submit(request()).future.result(WAIT)
    calls = encoder_calls(engine)
    engine.submit(request(deterministic=True)).future.result(WAIT)
    assert encoder_calls(engine) == calls + 2
    engine.submit(request(deterministic=True)).future.result(WAIT)
    assert encoder_calls(engine) == calls + 2


def test_the_longest_unused_goes_first_when_there_is_no_room():
    cache = EncodingCache(max_bytes=2 * 400)
    for name in ("a", "b"):
        cache.put(name, torch.zeros(100))
    assert cache.get("a") is not None
    cache.put("c", torch.zeros(100))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.get("c") is not None


def test_what_is_larger_than_all_the_room_is_not_kept():
    cache = EncodingCache(max_bytes=100)
    cache.put("a", torch.zeros(100))
    assert cache.get("a") is None


def test_nobody_can_change_what_is_kept():
    cache = EncodingCache(max_bytes=10_000)
    result = (torch.zeros(3),)
    cache.put("a", result)
    result[0].add_(1)
    cache.get("a")[0].add_(1)
    assert cache.get("a")[0].tolist() == [0, 0, 0]
