"""Previews show where an image is going, at the steps asked for, and change nothing about it."""

import numpy as np
import pytest
import torch

from deployments.catalog.entry import ModelEntry
from deployments.engine.engine import Engine
from deployments.engine.latent_colours import LatentColours
from deployments.engine.request import ImageRequest
from deployments.pipelines.loading import load_pipeline
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_stable_diffusion

WAIT = 120


def request(**changes) -> ImageRequest:
    values = {"prompt": "a ring", "num_inference_steps": 7, "guidance_scale": 3.0, "width": 16, "height": 24, "seed": 1}
    return image_request(**(values | changes))


def draw(pipeline, wanted: ImageRequest) -> np.ndarray:
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    picture = engine.submit(wanted).future.result(WAIT)
    engine.stop(WAIT)
    return picture


def test_there_is_one_every_so_many_steps():
    seen: list[tuple[int, tuple[int, ...]]] = []
    draw(
        tiny_stable_diffusion(),
        request(preview_every=3, on_preview=lambda step, picture: seen.append((step, picture.shape))),
    )
    assert seen == [(3, (12, 8, 3)), (6, (12, 8, 3))]


def test_they_change_nothing():
    expected = draw_image(tiny_stable_diffusion(), request())
    picture = draw(tiny_stable_diffusion(), request(on_preview=lambda step, picture: picture.fill(0)))
    assert np.abs(picture - expected).max() <= 1e-4


def test_the_last_one_looks_like_the_image_once_some_were_made():
    engine = Engine(
        load_pipeline(ModelEntry(repo="models/shapes", source="local", dtype="float32")),
        max_batch=8,
        costs=FixedCosts(),
    )
    prompts = (
        "green ring, white background",
        "a black square on a pink background",
        "a small yellow star on a purple background",
        "an orange triangle on a cyan background, on the left",
        "a blue cross on a yellow background",
        "a large white circle on a red background",
    )
    for prompt in prompts:
        engine.submit(request(prompt=prompt, width=64, height=64, num_inference_steps=8)).future.result(WAIT)
    previews: list[np.ndarray] = []
    wanted = request(
        prompt="a large red circle on a blue background",
        width=64,
        height=64,
        num_inference_steps=8,
        on_preview=lambda step, picture: previews.append(picture),
    )
    picture = engine.submit(wanted).future.result(WAIT)
    engine.stop(WAIT)
    small = picture.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) * 255
    assert np.abs(previews[-1] - small).mean() < 40
    assert np.corrcoef(previews[-1].ravel(), small.ravel())[0, 1] > 0.8


def test_an_autoencoder_that_decodes_no_pictures_has_none():
    pipeline = tiny_stable_diffusion()
    pipeline.vae = torch.nn.Linear(2, 2)
    assert LatentColours.fitted_to(pipeline) is None


def test_a_picture_with_an_alpha_channel_teaches_nothing_and_fails_nothing():
    pipeline = tiny_stable_diffusion()
    colours = LatentColours.fitted_to(pipeline)
    assert colours is not None
    latents = torch.ones(1, 4, 8, 8)
    before = colours.preview(pipeline, latents, 16, 16)
    colours.learn(pipeline, latents, np.ones((16, 16, 4), np.float32))
    assert np.array_equal(before, colours.preview(pipeline, latents, 16, 16))


@pytest.mark.parametrize("shape", [(1, 5, 8, 8), (1, 4, 3, 8, 8), (1, 64, 16)])
def test_latents_of_another_form_have_none(shape):
    pipeline = tiny_stable_diffusion()
    colours = LatentColours.fitted_to(pipeline)
    assert colours is not None
    assert colours.preview(pipeline, torch.zeros(shape), 16, 16) is None
