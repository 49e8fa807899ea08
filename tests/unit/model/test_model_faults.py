"""After a fault of its device a replica ends, and its jobs go elsewhere; those that came later lose no attempt."""

import asyncio

import pytest
import torch

from deployments.background import TaskSet
from deployments.catalog.entry import ModelEntry
from deployments.jobs.records.jobs import Job, JobRequest, JobState
from deployments.model import attempt
from deployments.model.fault_watch import end_after_fault
from deployments.model.image_model import ImageModel
from deployments.parameters import GenerationSettings
from deployments.pipelines.exceptions import EngineError
from deployments.pipelines.weights import Weights
from deployments.pools.parked_model import ParkedModel
from deployments.storage.local import LocalStorage
from deployments.tracker.job_tracker import JobTracker
from tests.support.image_models import image_model
from tests.support.job_trackers import job_tracker, submit_to
from tests.support.loading_samples import save_folder

WAIT = 60
FAULT = "CUDA error: an illegal memory access was encountered"


@pytest.fixture
async def tracker(tmp_path):
    tracker = job_tracker(f"sqlite+aiosqlite:///{tmp_path}/jobs.db", retry_base_seconds=60.0)
    yield tracker
    await tracker.close()


@pytest.fixture
def model(tmp_path, tracker) -> ImageModel:
    entry = ModelEntry.model_validate(
        {"repo": str(save_folder(tmp_path / "tiny")), "source": "local", "replicas": {"num_gpus": 0}}
    )
    return image_model("tiny", entry, LocalStorage(tmp_path / "images"), tracker)


def fail_in_the_next_step(model: ImageModel, monkeypatch) -> None:
    """Have the device fail as the engine sees it when it waits for a forward."""
    assert model.loaded.engine is not None

    def keep_pace() -> None:
        raise torch.AcceleratorError(FAULT)

    monkeypatch.setattr(model.loaded.engine._forwards, "keep_pace", keep_pace)


async def run(tracker: JobTracker, model: ImageModel, job_id: str) -> Job:
    settings = GenerationSettings(num_images=1, num_inference_steps=2, guidance_scale=2.0, width=16, height=16, seed=1)
    await submit_to(tracker, job_id, JobRequest(model_id="tiny", prompt="a ring", settings=settings, client="ann"))
    (claim,) = await tracker.claim({"tiny": 1}, "replica", f"claim of {job_id}")
    await asyncio.wait_for(model.generate(claim), WAIT)
    return await tracker.jobs.get(job_id)


async def test_jobs_that_meet_a_fault_are_tried_again_and_those_that_come_later_lose_no_attempt(
    tracker, model, monkeypatch
):
    monkeypatch.setattr(attempt, "_GIVE_BACK_AFTER_SECONDS", 0.0)
    model.loaded.check_health()
    fail_in_the_next_step(model, monkeypatch)

    met = await run(tracker, model, "6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3d")
    assert (met.state, met.not_before is None) == (JobState.PENDING, False)
    assert FAULT in met.message
    with pytest.raises(EngineError, match="illegal memory access"):
        model.loaded.check_health()

    later = await run(tracker, model, "6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3e")
    assert (later.state, later.not_before) == (JobState.PENDING, None)


async def test_the_process_ends_once_its_jobs_have_recorded_how_they_ended():
    happened, faulty, work = [], asyncio.Event(), TaskSet()

    def check_health() -> None:
        happened.append("checked")
        if faulty.is_set():
            raise EngineError(FAULT)

    async def job() -> None:
        await faulty.wait()
        happened.append("recorded")

    watch = asyncio.create_task(end_after_fault(check_health, work, happened.append, look_seconds=0.0))
    work.start(job())
    for _ in range(3):
        await asyncio.sleep(0)
    assert set(happened) == {"checked"}
    faulty.set()
    await asyncio.wait_for(watch, WAIT)
    assert happened[-2:] == ["recorded", 70]


@pytest.mark.parametrize("is_fault", [True, False])
def test_a_device_that_fails_while_weights_come_to_it_is_no_better(model, monkeypatch, is_fault):
    parked = ParkedModel(model)
    parked.load()

    def bring_in(weights: Weights) -> None:
        raise torch.AcceleratorError(FAULT)

    monkeypatch.setattr(Weights, "bring_in", bring_in)
    monkeypatch.setattr("deployments.model.loaded_model.is_device_fault", lambda error, device: is_fault)
    with pytest.raises(torch.AcceleratorError):
        parked.bring_in()
    if is_fault:
        with pytest.raises(EngineError, match="illegal memory access"):
            model.loaded.check_health()
    else:
        model.loaded.check_health()
