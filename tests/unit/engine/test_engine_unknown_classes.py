"""Pipeline classes that the engine has never heard of are batched all the same, and rightly."""

from pathlib import Path

import diffusers
import pytest

import deployments.engine
from tests.support.company import assert_company_changes_nothing
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_pipeline

UNKNOWN = ["AuraFlowPipeline", "Lumina2Pipeline", "CogView4Pipeline", "OvisImagePipeline"]


@pytest.mark.parametrize("class_name", UNKNOWN)
def test_nothing_in_the_engine_names_the_class_or_its_family(class_name):
    source = "".join(path.read_text() for path in Path(deployments.engine.__file__).parent.glob("*.py"))
    assert class_name.removesuffix("Pipeline") not in source


@pytest.mark.parametrize("class_name", UNKNOWN)
def test_its_images_in_company_are_those_of_its_stock_runs(class_name):
    requests = [
        image_request(
            prompt=prompt,
            negative_prompt=negative_prompt,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            width=32,
            height=32,
            seed=steps,
            max_sequence_length=24,
        )
        for prompt, negative_prompt, steps, guidance_scale in [
            ("a red circle", "", 6, 3.0),
            ("ring", "green", 3, 7.5),
            ("a large blue star on white", "", 4, 3.0),
        ]
    ]
    statistics = assert_company_changes_nothing(tiny_pipeline(getattr(diffusers, class_name)), requests)
    assert statistics.widest_batch > 1


def test_a_pipeline_that_changes_the_shared_modules_runs_by_itself():
    requests = [
        image_request("a red circle", num_inference_steps=steps, guidance_scale=3.0, width=16, height=16, seed=steps)
        for steps in (6, 3, 4)
    ]
    statistics = assert_company_changes_nothing(tiny_pipeline(diffusers.StableDiffusionPAGPipeline), requests)
    assert statistics.widest_batch == 0
