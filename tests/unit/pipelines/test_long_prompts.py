"""Prompts past the limit of CLIP count to their end, and short ones are what they were."""

import diffusers
import numpy as np
import pytest
import torch

from deployments.catalog.entry import ModelEntry
from deployments.engine.engine import Engine
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.long_prompts import encode_long_prompts
from deployments.pipelines.tuning import tune_pipeline
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_pipeline, tiny_stable_diffusion

WAIT = 120
TOLERANCE = 1e-4
LONG = "a red circle on a blue background, " * 12
FAMILIES = {"sd": tiny_stable_diffusion, "sdxl": lambda: tiny_pipeline(diffusers.StableDiffusionXLPipeline)}


@pytest.fixture(params=FAMILIES)
def build(request):
    return FAMILIES[request.param]


@pytest.fixture
def pipeline(build):
    pipeline = build()
    encode_long_prompts(pipeline, "cpu")
    return pipeline


def draw(pipeline, prompt, negative=""):
    return draw_image(pipeline, image_request(prompt=prompt, negative_prompt=negative))


@pytest.mark.parametrize("negative", ["", "green"])
def test_a_short_prompt_is_drawn_as_before(build, pipeline, negative):
    assert np.abs(draw(pipeline, "a red circle", negative) - draw(build(), "a red circle", negative)).max() <= TOLERANCE


def test_the_end_of_a_long_prompt_counts(build, pipeline):
    assert np.array_equal(draw(build(), LONG), draw(build(), LONG + "a green star"))
    assert np.abs(draw(pipeline, LONG) - draw(pipeline, LONG + "a green star")).max() > TOLERANCE


def test_the_end_of_a_long_negative_prompt_counts(pipeline):
    one, two = (draw(pipeline, "a red circle", LONG + end) for end in ("", "a green star"))
    assert np.abs(one - two).max() > TOLERANCE


def test_weights_count_and_a_weight_of_one_does_not(pipeline):
    plain = draw(pipeline, "a red circle")
    stronger, weaker = draw(pipeline, "a (red:1.8) circle"), draw(pipeline, "a (red:0.2) circle")
    assert np.abs(draw(pipeline, "a (red:1) circle") - plain).max() <= TOLERANCE
    assert np.abs(stronger - plain).max() > TOLERANCE
    assert np.abs(weaker - plain).max() > TOLERANCE
    assert np.abs(weaker - stronger).max() > TOLERANCE


def test_an_engine_draws_long_and_short_prompts_as_they_are_alone(pipeline):
    prompts = [LONG, "a (red:1.5) circle", LONG + "a green star", "a blue ring", ""]
    requests = [
        image_request(prompt=prompt, negative_prompt="green" if index % 2 else "", seed=index)
        for index, prompt in enumerate(prompts)
    ]
    expected = [draw_image(pipeline, request) for request in requests]
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    generations = [engine.submit(request) for request in requests]
    for generation, alone in zip(generations, expected, strict=True):
        assert np.abs(generation.future.result(WAIT) - alone).max() <= TOLERANCE
    engine.stop(WAIT)
    assert any(name.startswith("CLIPTextModel") for name, _ in engine.statistics.forwards)


def test_image_to_image_reads_long_prompts_too(pipeline):
    start = torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
    requests = [
        image_request(prompt=LONG + end, task="image2image", inputs={"image": start}, strength=0.9)
        for end in ("", "a green star")
    ]
    one, two = (draw_image(pipeline, request) for request in requests)
    assert np.abs(one - two).max() > TOLERANCE


@pytest.mark.parametrize("name", ["FluxPipeline", "StableDiffusion3Pipeline", "PixArtSigmaPipeline"])
def test_pipelines_that_read_otherwise_say_so(name):
    pipeline = tiny_pipeline(getattr(diffusers, name))
    with pytest.raises(ModelLoadError, match=f"CLIP text encoders alone, not for a {name}"):
        tune_pipeline(pipeline, ModelEntry(repo="owner/name", prompt_encoding="long"), "cpu")
