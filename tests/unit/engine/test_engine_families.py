"""Whatever family a model is of, images made in company are those that its stock pipeline makes alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from deployments.engine.costs import ForwardCosts
from deployments.engine.engine import Engine
from deployments.engine.generation import Generation
from deployments.engine.request import ImageRequest
from deployments.engine.statistics import EngineStatistics
from tests.support.drawing import draw_image
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines.families import FAMILIES, Family

TOLERANCE = 1e-4
WAIT = 120


class WidthIsFree(ForwardCosts):
    """Whether the engine finds company worth its time depends on how busy the machine is; here it always does."""

    def is_measured(self, name: str) -> bool:
        return True

    def cap(self, name: str, most_rows: int) -> int:
        return most_rows


def eight_requests(family: Family, pipeline: DiffusionPipeline) -> list[ImageRequest]:
    """Different in everything in which requests may differ. The first is the longest, the others come while it runs."""
    side, other_side = family.sides
    schedulers = (None, *family.schedulers)
    prompts = ["a red circle", "ring", "a large blue star on a white background, and a small one", "an elephant"]
    return [
        image_request(
            prompt=prompts[index % 4],
            negative_prompt=("", "green", "an ugly cat")[index % 3],
            num_inference_steps=(9, 3, 5, 2, 7, 4, 6, 2)[index],
            guidance_scale=family.guidance_scales[index % len(family.guidance_scales)],
            width=other_side if index in (3, 6) else side,
            height=side,
            seed=index,
            max_sequence_length=24,
            scheduler=schedulers[index % len(schedulers)],
            inputs=family.inputs,
        )
        for index in range(8)
    ]


def draw_in_company(
    pipeline: DiffusionPipeline, requests: Sequence[ImageRequest]
) -> tuple[list[np.ndarray], EngineStatistics]:
    """The pictures of an engine to which the requests come one by one, at the steps of the first."""
    engine = Engine(pipeline, max_batch=8, costs=WidthIsFree())
    generations: list[Generation] = []
    first, *others = requests

    def submit_next(step: int) -> None:
        generations.extend(engine.submit(request) for request in others[2 * step - 2 : 2 * step])

    host = engine.submit(_watched(first, submit_next))
    try:
        pictures = [host.future.result(WAIT), *(generation.future.result(WAIT) for generation in generations)]
    finally:
        engine.stop(WAIT)
    return pictures, engine.statistics


def _watched(request: ImageRequest, on_step) -> ImageRequest:
    return replace(request, on_step=on_step)


def assert_company_changes_nothing(pipeline: DiffusionPipeline, requests: Sequence[ImageRequest]) -> EngineStatistics:
    with torch.inference_mode():
        alone = [draw_image(pipeline, request) for request in requests]
    together, statistics = draw_in_company(pipeline, requests)
    assert len(together) == len(requests)
    differences = [np.abs(mine - theirs).max() for mine, theirs in zip(together, alone, strict=True)]
    assert max(differences) <= TOLERANCE, differences
    assert len({picture.tobytes() for picture in together}) == len(requests)
    return statistics


@pytest.mark.parametrize("name", FAMILIES)
def test_eight_different_requests_equal_their_stock_runs(name):
    family = FAMILIES[name]
    pipeline = family.build()
    statistics = assert_company_changes_nothing(pipeline, eight_requests(family, pipeline))
    denoiser = type(getattr(pipeline, "unet", None) or pipeline.transformer).__name__
    assert max(width for owner, width in statistics.forwards if owner == denoiser) > 1
