"""Whatever family a model is of, images made in company are those that its stock pipeline makes alone."""

import pytest
from diffusers import DiffusionPipeline

from deployments.engine.request import ImageRequest
from tests.support.company import assert_company_changes_nothing
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines.families import FAMILIES, Family


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


@pytest.mark.parametrize("name", FAMILIES)
def test_eight_different_requests_equal_their_stock_runs(name):
    family = FAMILIES[name]
    pipeline = family.build()
    statistics = assert_company_changes_nothing(pipeline, eight_requests(family, pipeline))
    denoiser = type(getattr(pipeline, "unet", None) or pipeline.transformer).__name__
    assert max(width for owner, width in statistics.forwards if owner == denoiser) > 1
