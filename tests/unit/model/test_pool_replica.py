"""A pool's replica runs the jobs of several models that take turns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from deployments.accelerator import share_bytes
from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.jobs.records.jobs import Job, JobPhase, JobRequest, JobState
from deployments.model.image_model import ImageModel
from deployments.parameters import GenerationSettings
from deployments.pipelines.loading import load_pipeline
from deployments.pipelines.weights import Weights
from deployments.pools import replica as pool_replica
from deployments.pools.parked_model import ParkedModel
from deployments.pools.replica import PoolReplica
from deployments.settings.service import Settings
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.model_state import ModelState
from tests.support.following import news_of
from tests.support.job_trackers import job_tracker, submit_to
from tests.support.loading_samples import save_folder
from tests.support.pretended_gpu import pretend_gpu

pytestmark = pytest.mark.usefixtures("own_logs")


@pytest.fixture
async def tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JobTracker]:
    tracker = job_tracker(f"sqlite+aiosqlite:///{tmp_path}/jobs.db")
    monkeypatch.setattr(pool_replica, "open_tracker", lambda _: tracker)
    with pretend_gpu() as gpu:
        yield tracker
        assert not gpu.faults
    await tracker.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("models") / "tiny")


def size_of(folder: Path) -> int:
    """Bytes of the weights of the model in a folder."""
    return Weights(load_pipeline(ModelEntry(repo=str(folder), source="local"), "cpu"), "cpu").size


def catalog_of(folder: Path, **pool: object) -> Catalog:
    entry = {"repo": str(folder), "source": "local", "pool": "shared", "max_batch": 1}
    models = {"red": entry, "blue": entry, "missing": {**entry, "repo": str(folder / "none")}}
    return Catalog.model_validate({"models": models, "pools": {"shared": {"replicas": {"num_gpus": 1}, **pool}}})


async def replica_of(tmp_path: Path, catalog: Catalog, kind: type[PoolReplica] = PoolReplica) -> PoolReplica:
    replica = object.__new__(kind)
    settings = Settings(data_dir=tmp_path)
    await replica.__init__("shared", catalog.pools["shared"], catalog.members("shared"), settings)  # type: ignore[misc]
    return replica


async def start(tracker: JobTracker, replica: PoolReplica, model_id: str) -> tuple[str, asyncio.Task[None]]:
    """A job that the replica has; its id, and what ends with it."""
    settings = GenerationSettings(num_images=1, num_inference_steps=2, guidance_scale=2.0, width=16, height=16, seed=1)
    job_id = str(uuid4())
    asked = JobRequest(model_id=model_id, prompt="a red circle", settings=settings, client="ann")
    await submit_to(tracker, job_id, asked)
    (claim,) = await tracker.claim({model_id: 1}, "replica", str(uuid4()))
    return job_id, asyncio.create_task(replica.generate(claim))


async def run(tracker: JobTracker, replica: PoolReplica, model_id: str) -> Job:
    job_id, done = await start(tracker, replica, model_id)
    await done
    return await tracker.jobs.get(job_id)


async def until_loading(tracker: JobTracker, job_id: str) -> None:
    job = await tracker.jobs.get(job_id)
    async with asyncio.timeout(60):
        while job.phase is not JobPhase.LOADING_MODEL:
            job = await news_of(tracker, job)


async def test_models_take_turns_where_the_memory_is_enough_for_one(tmp_path, tracker, folder):
    catalog = catalog_of(folder, memory=size_of(folder), residency_seconds=0.0)
    replica = await replica_of(tmp_path, catalog)
    jobs = [await start(tracker, replica, model_id) for model_id in ("red", "blue", "red", "blue")]
    await asyncio.gather(*(done for _, done in jobs))

    assert {(await tracker.jobs.get(job_id)).state for job_id, _ in jobs} == {JobState.COMPLETED}
    described = await replica.describe()
    assert sorted(described[model_id]["place"] for model_id in ("red", "blue")) == ["parked", "resident"]
    assert described["red"]["steps"] > 0
    replica.check_health()


async def test_a_pool_with_a_share_of_a_gpu_claims_no_more_than_that(tmp_path, tracker, folder):
    catalog = catalog_of(folder, replicas={"num_gpus": 0.5}, reserve="1GiB")
    replica = await replica_of(tmp_path, catalog)

    assert replica._residency.memory == share_bytes(0.5) - (1 << 30)


async def test_models_stay_together_where_the_memory_is_enough_for_both(tmp_path, tracker, folder):
    replica = await replica_of(tmp_path, catalog_of(folder, memory=2 * size_of(folder)))
    for model_id in ("red", "blue"):
        assert (await run(tracker, replica, model_id)).state is JobState.COMPLETED

    described = await replica.describe()
    assert [described[model_id]["place"] for model_id in described] == ["resident", "resident", "unloaded"]


async def test_a_model_that_is_dropped_is_loaded_again(tmp_path, tracker, folder):
    replica = await replica_of(tmp_path, catalog_of(folder, memory=size_of(folder), parked_memory=0))
    for model_id in ("red", "blue", "red"):
        assert (await run(tracker, replica, model_id)).state is JobState.COMPLETED

    described = await replica.describe()
    assert [described[model_id]["place"] for model_id in described] == ["resident", "unloaded", "unloaded"]


async def test_a_model_that_cannot_be_loaded_is_unavailable_and_the_others_draw(tmp_path, tracker, folder):
    catalog = catalog_of(folder)
    replica = await replica_of(tmp_path, catalog)
    reason = "none could not be loaded: there is no such folder or file."
    for _ in range(2):
        failed = await run(tracker, replica, "missing")
        assert (failed.state, failed.message) == (JobState.FAILED, reason)
    assert (await run(tracker, replica, "red")).state is JobState.COMPLETED

    fingerprints = {model_id: entry.fingerprint for model_id, entry in catalog.models.items()}
    conditions = await tracker.model_conditions(fingerprints)
    assert {model_id: condition.state for model_id, condition in conditions.items()} == {
        "red": ModelState.READY,
        "blue": ModelState.COLD,
        "missing": ModelState.UNAVAILABLE,
    }
    assert conditions["missing"].reason == reason


class SlowModel(ParkedModel):
    """Is loaded when the test says so."""

    may_load = threading.Event()

    def load(self) -> int:
        assert self.may_load.wait(60)
        return super().load()


class SlowReplica(PoolReplica):
    """With models of another kind."""

    def _open_model(self, *opened):
        return SlowModel(ImageModel.opened(*opened))


async def test_a_job_whose_model_is_brought_in_says_so_and_can_be_cancelled(tmp_path, tracker, folder):
    SlowModel.may_load.clear()
    replica = await replica_of(tmp_path, catalog_of(folder), SlowReplica)
    job_id, done = await start(tracker, replica, "red")
    other_id, other_done = await start(tracker, replica, "red")
    await until_loading(tracker, job_id)
    await tracker.jobs.cancel(job_id)
    await done
    assert (await tracker.jobs.get(job_id)).state is JobState.CANCELLED
    SlowModel.may_load.set()
    await other_done
    assert (await tracker.jobs.get(other_id)).state is JobState.COMPLETED
