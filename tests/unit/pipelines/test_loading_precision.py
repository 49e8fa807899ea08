"""An autoencoder that half precision is too coarse for stays where it is while images share it."""

import diffusers
import numpy as np
import torch

from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from deployments.pipelines.precision import keep_autoencoder_precise
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_stable_diffusion
from tests.support.tiny_pipelines.assembly import tiny_pipeline

WAIT = 120


def tiny_xl() -> diffusers.DiffusionPipeline:
    torch.manual_seed(0)
    pipeline = tiny_pipeline(diffusers.StableDiffusionXLPipeline)
    pipeline.vae.register_to_config(force_upcast=True)
    return pipeline.to(torch.float16)


def request(seed: int, steps: int) -> ImageRequest:
    return image_request("a ring", num_inference_steps=steps, seed=seed)


def test_images_in_company_are_those_of_the_stock_pipeline_which_moves_it():
    wanted = [request(1, 3), request(2, 5), request(3, 4)]
    expected = [draw_image(tiny_xl(), each) for each in wanted]
    pipeline = tiny_xl()
    keep_autoencoder_precise(pipeline)
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    pictures = [generation.future.result(WAIT) for generation in [engine.submit(each) for each in wanted]]
    engine.stop(WAIT)
    assert pipeline.vae.dtype == torch.float32
    for picture, alone in zip(pictures, expected, strict=True):
        assert np.isfinite(picture).all()
        assert np.abs(picture - alone).mean() < 1e-2


def test_other_autoencoders_are_left_alone():
    precise, plain = tiny_stable_diffusion(), tiny_stable_diffusion().to(torch.float16)
    for pipeline in (precise, plain):
        dtype = pipeline.vae.dtype
        keep_autoencoder_precise(pipeline)
        assert pipeline.vae.dtype == dtype
