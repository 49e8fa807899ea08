"""A model's jobs tell what its loading comes to: why it could not be, and what of a prompt was not read."""

from pathlib import Path

import pytest
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput

from deployments.catalog.entry import ModelEntry
from deployments.jobs.records.jobs import Image, Job, JobRequest, JobState
from deployments.model import loaded_model
from deployments.model.image_model import ImageModel
from deployments.parameters import GenerationSettings
from deployments.storage.local import LocalStorage
from deployments.tracker.job_tracker import JobTracker
from tests.support.image_models import image_model
from tests.support.job_trackers import job_tracker, submit_to
from tests.support.loading_samples import save_folder
from tests.support.tiny_pipelines import tiny_stable_diffusion

LONG = "red " * 200
BLACK_PICTURES = [
    ({}, False, JobState.FAILED),
    ({}, True, JobState.COMPLETED),
    ({"black_pictures": "allowed"}, False, JobState.COMPLETED),
]
JOB = "6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3d"


@pytest.fixture
async def tracker(tmp_path):
    tracker = job_tracker(f"sqlite+aiosqlite:///{tmp_path}/jobs.db")
    yield tracker
    await tracker.close()


async def run(
    tracker: JobTracker, model: ImageModel, prompt: str, negative_prompt: str = ""
) -> tuple[Job, list[Image]]:
    settings = GenerationSettings(num_images=1, num_inference_steps=1, guidance_scale=2.0, width=16, height=16, seed=1)
    request = JobRequest(
        model_id="tiny", prompt=prompt, negative_prompt=negative_prompt, settings=settings, client="ann"
    )
    await submit_to(tracker, JOB, request)
    (claim,) = await tracker.claim({"tiny": 1}, "replica", "claim")
    await model.generate(claim)
    return await tracker.jobs.get(JOB), await tracker.images.of_jobs([JOB])


def tiny_model(folder: Path, tracker: JobTracker, repo: Path, **fields: object) -> ImageModel:
    entry = ModelEntry.model_validate(
        {"repo": str(repo), "source": "local", "replicas": {"num_gpus": 0}, "max_batch": 1, **fields}
    )
    return image_model("tiny", entry, LocalStorage(folder / "images"), tracker)


async def test_what_was_cut_off_of_a_prompt_is_in_the_metadata(tmp_path, tracker):
    model = tiny_model(tmp_path, tracker, save_folder(tmp_path / "tiny"))
    limit = tiny_stable_diffusion().tokenizer.model_max_length
    job, (image,) = await run(tracker, model, LONG, negative_prompt="a green star")

    assert job.state is JobState.COMPLETED
    assert image.metadata["prompt_truncated"] == {"tokens": 202, "limit": limit}
    assert "negative_prompt_truncated" not in image.metadata
    assert model.loaded.failure == ""


async def test_nothing_is_cut_off_where_long_prompts_are_taken(tmp_path, tracker):
    model = tiny_model(tmp_path, tracker, save_folder(tmp_path / "tiny"), prompt_encoding="long")
    job, (image,) = await run(tracker, model, LONG, negative_prompt=LONG)

    assert job.state is JobState.COMPLETED
    assert not {"prompt_truncated", "negative_prompt_truncated"} & set(image.metadata)


async def test_a_model_that_could_not_be_loaded_fails_its_jobs_with_the_reason(tmp_path, tracker):
    model = tiny_model(tmp_path, tracker, tmp_path / "none")
    job, images = await run(tracker, model, "a red circle")

    assert model.loaded.failure == "none could not be loaded: there is no such folder or file."
    assert (job.state, job.message, images) == (JobState.FAILED, model.loaded.failure, [])


async def test_whatever_loading_raises_is_the_reason(tmp_path, tracker, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ImportError("Could not import module\n'BloomModel'.")

    monkeypatch.setattr(loaded_model, "load_model", fail)
    model = tiny_model(tmp_path, tracker, tmp_path / "tiny")
    job, _ = await run(tracker, model, "a red circle")

    assert model.loaded.failure.endswith("could not be loaded: ImportError: Could not import module 'BloomModel'.")
    assert (job.state, job.message) == (JobState.FAILED, model.loaded.failure)


@pytest.mark.parametrize(("fields", "flag", "state"), BLACK_PICTURES)
async def test_a_black_picture_fails_unless_it_may_be(tmp_path, tracker, monkeypatch, fields, flag, state):
    model = tiny_model(tmp_path, tracker, save_folder(tmp_path / "tiny"), **fields)
    with torch.no_grad():
        model.loaded.engine._pipeline.vae.decoder.conv_out.bias.fill_(-100)
    if flag:
        monkeypatch.setattr(
            StableDiffusionPipelineOutput, "get", lambda output, name, default=None: [True], raising=False
        )
    job, images = await run(tracker, model, "a red circle")

    assert job.state is state, job.message
    if state is JobState.FAILED:
        assert "black_pictures" in job.message
    else:
        assert ("safety checker" in images[0].metadata["warning"]) is flag


async def test_values_that_are_not_numbers_fail_the_job_with_the_likely_cause(tmp_path, tracker):
    model = tiny_model(tmp_path, tracker, save_folder(tmp_path / "tiny"))
    with torch.no_grad():
        model.loaded.engine._pipeline.vae.decoder.conv_out.bias.fill_(torch.nan)
    job, images = await run(tracker, model, "a red circle")

    assert (job.state, images) == (JobState.FAILED, [])
    assert "VAE" in job.message
