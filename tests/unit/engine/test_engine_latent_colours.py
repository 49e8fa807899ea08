"""Previews show where an image is going, at the steps asked for, and change nothing about it."""

import numpy as np
import pytest
import torch

from deployments.catalog.entry import ModelEntry
from deployments.engine.engine import Engine
from deployments.engine.image_previews import ImagePreviews
from deployments.engine.latent_colours import LatentColours
from deployments.engine.request import ImageRequest
from deployments.pipelines.loading import load_pipeline
from deployments.pipelines.offload import place_pipeline
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import pretend_gpu
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
    before = colours.preview(pipeline, latents, 16, 16).value()
    colours.learn(pipeline, latents, np.ones((16, 16, 4), np.float32))
    assert torch.equal(before, colours.preview(pipeline, latents, 16, 16).value())


@pytest.mark.parametrize("shape", [(1, 5, 8, 8), (1, 4, 3, 8, 8), (1, 64, 16)])
def test_latents_of_another_form_have_none(shape):
    pipeline = tiny_stable_diffusion()
    colours = LatentColours.fitted_to(pipeline)
    assert colours is not None
    assert colours.preview(pipeline, torch.zeros(shape), 16, 16) is None


class Watcher:
    """Keeps what is shown, and a clock that moves by a second at each step."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, tuple[int, ...]]] = []
        self.now = 0.0

    def __call__(self, step: int, picture: np.ndarray) -> None:
        self.shown.append((step, picture.shape))


def steps_of(previews: ImagePreviews, watcher: Watcher, steps: int, device: str) -> None:
    for step in range(1, steps + 1):
        previews.note_step(step, torch.full((1, 4, 12, 8), 1.0 / step, device=device))
        watcher.now += 1


def test_they_come_no_faster_than_asked_for():
    watcher, pipeline = Watcher(), tiny_stable_diffusion()
    wanted = request(on_preview=watcher, preview_seconds=2.5)
    colours = LatentColours.fitted_to(pipeline)
    steps_of(ImagePreviews(colours, pipeline, wanted, lambda: watcher.now), watcher, 8, "cpu")
    assert [step for step, _ in watcher.shown] == [1, 4, 7]


def test_on_a_device_the_host_waits_for_none_of_them():
    with pretend_gpu() as gpu, torch.inference_mode():
        watcher, pipeline = Watcher(), tiny_stable_diffusion().to("cuda")
        colours = LatentColours.fitted_to(pipeline)
        colours.learn(pipeline, torch.ones(1, 4, 12, 8, device="cuda"), np.ones((24, 16, 3), np.float32))
        previews = ImagePreviews(colours, pipeline, request(on_preview=watcher), lambda: watcher.now)
        gpu.forget()
        gpu.late_queries = 1
        steps_of(previews, watcher, 4, "cuda")
        previews.finish(np.ones((24, 16, 3), np.float32))
        assert watcher.shown
        assert not gpu.syncs
        assert not gpu.faults


def test_without_a_watcher_nothing_is_copied():
    with pretend_gpu() as gpu:
        engine = Engine(tiny_stable_diffusion().to("cuda"), max_batch=8, costs=FixedCosts())
        gpu.forget()
        for seed in range(2):
            engine.submit(request(seed=seed)).future.result(WAIT)
        engine.stop(WAIT)
        decoded = 2  # one look at the decoded values of each image
        assert sum(count for (_, where), count in gpu.copies.items() if "readbacks" in where) == decoded
        assert not [where for _, where in gpu.copies if "latent_colours" in where]


def test_they_work_where_whole_modules_are_offloaded():
    with pretend_gpu() as gpu:
        watcher, pipeline = Watcher(), tiny_stable_diffusion()
        place_pipeline(pipeline, "model", "cuda")
        draw(pipeline, request(on_preview=watcher))
        assert len(watcher.shown) == 7
        assert not gpu.faults


def test_one_that_fails_says_why_and_the_image_is_made(caplog):
    pipeline = tiny_stable_diffusion()
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    engine._colours._weights = torch.zeros(5, 2)
    picture = engine.submit(request(on_preview=lambda step, preview: None)).future.result(WAIT)
    engine.stop(WAIT)
    assert picture.shape == (24, 16, 3)
    assert [record.levelname for record in caplog.records if "previews" in record.message] == ["WARNING"]
