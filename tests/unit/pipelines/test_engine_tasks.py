"""One loaded model does all the tasks of its family, side by side in one engine and around the same weights."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from deployments.engine.shells import shell_for
from deployments.pipelines.exceptions import (
    IncompatibleSchedulerError,
    MissingInputError,
    UnknownInputError,
    UnknownTaskError,
    UnsuitableRequestError,
)
from tests.support.company import WAIT, assert_company_changes_nothing
from tests.support.drawing import draw_image
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_pipeline

SIDE = 16


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))


def left_half() -> Image.Image:
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[:, : SIDE // 2] = 255
    return Image.fromarray(mask)


def request(**changes) -> ImageRequest:
    values = {
        "prompt": "a red circle",
        "num_inference_steps": 6,
        "guidance_scale": 3.0,
        "width": SIDE,
        "height": SIDE,
        "seed": 1,
        "max_sequence_length": 24,
    }
    return image_request(**(values | changes))


def controlled_pipeline() -> DiffusionPipeline:
    return tiny_pipeline(diffusers.StableDiffusionControlNetPipeline)


class TestAgreement:
    @pytest.mark.parametrize(
        "class_name",
        ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline"],
    )
    def test_all_tasks_in_one_engine_equal_their_stock_runs(self, class_name):
        image, other = picture(1), picture(2)
        statistics = assert_company_changes_nothing(
            tiny_pipeline(getattr(diffusers, class_name)),
            [
                request(num_inference_steps=9),
                request(seed=2, task="image2image", inputs={"image": image}, strength=0.7),
                request(seed=3, prompt="ring", task="image2image", inputs={"image": other}, strength=0.5),
                request(seed=4, task="inpaint", inputs={"image": image, "mask_image": left_half()}, strength=0.8),
                request(seed=5, prompt="", task="inpaint", inputs={"image": other, "mask_image": left_half()}),
                request(seed=6, guidance_scale=1.0),
            ],
        )
        assert statistics.widest_batch > 2

    def test_requests_with_and_without_a_control_image_share_an_engine(self):
        statistics = assert_company_changes_nothing(
            controlled_pipeline(),
            [
                request(num_inference_steps=9),
                request(seed=2, inputs={"image": picture(1)}),
                request(seed=3, inputs={"control_image": picture(2)}, control_scale=0.5),
                request(seed=4, task="image2image", inputs={"image": picture(3), "control_image": picture(2)}),
                request(seed=5, task="image2image", inputs={"image": picture(3)}),
                request(seed=6, prompt="ring"),
            ],
        )
        assert statistics.widest_batch > 1

    def test_any_number_of_requests_goes_through_the_controlnet_together(self):
        requests = [
            request(seed=seed, num_inference_steps=9 - 2 * seed, inputs={"image": picture(1)}) for seed in range(4)
        ]
        statistics = assert_company_changes_nothing(controlled_pipeline(), requests)
        assert {("ControlNetModel", 2), ("ControlNetModel", 3)} <= statistics.forwards.keys()

    def test_a_control_image_has_an_effect(self):
        pipeline = controlled_pipeline()
        with torch.inference_mode():
            plain, controlled, other = (
                draw_image(pipeline, request(inputs=inputs))
                for inputs in ({}, {"image": picture(1)}, {"image": picture(2)})
            )
        assert np.abs(plain - controlled).max() > 1e-3
        assert np.abs(controlled - other).max() > 1e-3


class TestSharing:
    def test_a_task_uses_the_very_modules_and_leaves_the_model_as_it_was(self):
        pipeline = tiny_pipeline(diffusers.StableDiffusionPipeline)
        scheduler = pipeline.scheduler
        before = dict(scheduler.config)
        shell = shell_for(pipeline, request(task="inpaint", inputs={"image": picture(1), "mask_image": left_half()}))
        assert type(shell) is diffusers.StableDiffusionInpaintPipeline
        assert shell.unet is pipeline.unet
        assert shell.vae is pipeline.vae
        assert shell.scheduler is not scheduler
        assert pipeline.scheduler is scheduler
        assert dict(scheduler.config) == before

    def test_a_model_whose_latents_have_other_channels_than_most_inpaints_too(self):
        latents = {"in_channels": 6, "out_channels": 6}
        pipeline = tiny_pipeline(diffusers.StableDiffusionPipeline, {"unet": latents, "vae": {"latent_channels": 6}})
        inputs = {"image": picture(1), "mask_image": left_half()}
        statistics = assert_company_changes_nothing(
            pipeline, [request(num_inference_steps=9), request(seed=2, task="inpaint", inputs=inputs, strength=0.8)]
        )
        assert ("UNet2DConditionModel", 2) in statistics.forwards
        assert pipeline.unet.config.in_channels == 6

    def test_a_model_loaded_for_another_task_draws_from_a_prompt_alone(self):
        pipeline = tiny_pipeline(diffusers.StableDiffusionImg2ImgPipeline)
        assert type(shell_for(pipeline, request())) is diffusers.StableDiffusionPipeline

    def test_the_library_need_not_pair_the_classes_of_a_family(self):
        shell = shell_for(
            tiny_pipeline(diffusers.ChromaPipeline), request(task="image2image", inputs={"image": picture(1)})
        )
        assert type(shell) is diffusers.ChromaImg2ImgPipeline


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"task": "image2image"}, MissingInputError, "Image-to-image needs an image"),
            (
                {"task": "inpaint", "inputs": {"mask_image": left_half()}},
                MissingInputError,
                "Inpainting needs an image",
            ),
            ({"task": "inpaint", "inputs": {"image": picture(1)}}, MissingInputError, "needs a mask"),
            ({"inputs": {"mask_image": left_half()}}, UnknownInputError, "takes no mask_image"),
            ({"inputs": {"control_image": picture(1)}}, UnsuitableRequestError, "no ControlNet"),
            ({"inputs": {"stregth": 0.5}}, UnknownInputError, "takes no stregth"),
            (
                {"scheduler": "FlowMatchEulerDiscreteScheduler"},
                IncompatibleSchedulerError,
                "It can use: .*DDIMScheduler",
            ),
            ({"scheduler": "Magic"}, IncompatibleSchedulerError, "cannot use the scheduler 'Magic'"),
        ],
    )
    def test_what_the_model_cannot_do_is_refused_with_a_reason(self, changes, error, message):
        engine = Engine(tiny_pipeline(diffusers.StableDiffusionPipeline), max_batch=8)
        future = engine.submit(request(**changes)).future
        with pytest.raises(error, match=message) as caught:
            future.result(WAIT)
        engine.stop(WAIT)
        assert caught.value.status == 400
        assert not caught.value.retryable

    def test_a_family_without_the_task_says_so(self):
        pipeline = tiny_pipeline(diffusers.PixArtSigmaPipeline)
        with pytest.raises(UnknownTaskError, match="PixArtSigmaPipeline has no counterpart for inpainting"):
            shell_for(pipeline, request(task="inpaint", inputs={"image": picture(1), "mask_image": left_half()}))
