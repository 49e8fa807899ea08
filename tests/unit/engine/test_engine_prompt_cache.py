"""The same prompt passes through its text encoder once, and what is kept is bounded and nobody else's to change."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diffusers import SanaPipeline
from transformers import DynamicCache

from deployments.engine.encodings import EncodingCache, keep_no_past
from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from deployments.engine.trees import all_tensors_of, leaves_of, tensors_of
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_pipeline, tiny_stable_diffusion

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


def test_all_that_is_kept_is_counted():
    pipeline = tiny_pipeline(SanaPipeline)
    tokens = torch.ones(1, 300, dtype=torch.long)
    with_past = pipeline.text_encoder(tokens)
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    inputs = {"use_resolution_binning": False}
    engine.submit(request(guidance_scale=1.0, width=32, height=32, inputs=inputs)).future.result(WAIT)
    cache = engine._forwards.encodings
    kept = all_tensors_of([result for _, result in cache._kept.items()])
    engine.stop(WAIT)
    assert with_past.past_key_values is not None
    assert kept
    assert cache.kept_bytes == sum(tensor.nbytes for tensor in kept)
    assert {id(tensor) for tensor in kept} == {id(tensor) for tensor in tensors_of(list(cache._kept.values()))}
    assert not any(isinstance(leaf, DynamicCache) for leaf in leaves_of(list(cache._kept.values())))


def test_a_call_that_asks_for_a_past_still_has_one():
    encoder = tiny_pipeline(SanaPipeline).text_encoder
    keep_no_past([encoder])
    tokens = torch.ones(1, 3, dtype=torch.long)
    assert encoder(tokens).past_key_values is None
    assert encoder(tokens, use_cache=True).past_key_values is not None


def test_results_that_change_as_they_are_used_are_not_kept():
    cache = EncodingCache(max_bytes=1 << 20)
    past = DynamicCache()
    past.update(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4), 0)
    cache.put("a", {"words": torch.zeros(3), "past": past})
    assert cache.get("a") is None
    assert sum(tensor.nbytes for tensor in all_tensors_of({"past": past})) == 32


def test_the_host_waits_for_no_tokens():
    with pretend_gpu() as gpu:
        pipeline = tiny_stable_diffusion().to("cuda")
        engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
        gpu.forget()
        for seed in range(2):
            engine.submit(request(seed=seed)).future.result(WAIT)
        assert engine.statistics.cached_encodings == 2
        engine.stop(WAIT)
        reads = [where for kind, where in gpu.copies if "D2H" in kind]
    assert [where for where in reads if "encodings" in where or "host_tokens" in where] == []
