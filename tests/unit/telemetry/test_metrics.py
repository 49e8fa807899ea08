"""What is measured: under which names, and that measuring never gets in the way."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deployments.jobs.queue.counts import QueueCounts, StateCounts
from deployments.jobs.records.exceptions import QueueFullError
from deployments.jobs.records.jobs import Claim
from deployments.telemetry import metrics
from deployments.telemetry.measuring import ReplicaMeter, note_queue, note_rejection, repeat
from tests.support.job_samples import request
from tests.support.metric_names import all_metrics, exposed_names


class Recorder:
    """In place of a metric of Ray."""

    def __init__(self) -> None:
        self.told: list[tuple[float, dict[str, str]]] = []

    def record(self, value: float, tags: dict[str, str]) -> None:
        self.told.append((value, tags))

    inc = set = observe = record


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorder]:
    """What is recorded on a cluster, by the metrics' names."""
    monkeypatch.setattr(metrics, "is_recording", lambda: True)
    made = {}
    for metric in all_metrics():
        made[metric.name] = Recorder()
        monkeypatch.setitem(metric.__dict__, "_of_ray", made[metric.name])
    return made


def claim(seconds_old: float) -> Claim:
    return Claim(job_id="a", request=request(), fence=1, created_at=datetime.now(UTC) - timedelta(seconds=seconds_old))


def engine(**changes: float) -> dict[str, Any]:
    """What a replica says of itself."""
    return {"images": 2, "forward_share": 0.9, "steps": 10, "step_seconds": 1.5, "rows": 30, "padded_rows": 0} | changes


class TestNames:
    def test_are_unique_and_say_whose_they_are(self) -> None:
        names = [metric.name for metric in all_metrics()]

        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"cyberimage_[a-z]+(_[a-z]+)*", name) for name in names)

    def test_total_is_left_to_ray(self) -> None:
        assert not [metric.name for metric in all_metrics() if metric.name.endswith("_total")]
        assert exposed_names(metrics.SUBMITTED_JOBS) == ("ray_cyberimage_submitted_jobs_total",)
        assert "ray_cyberimage_job_seconds_bucket" in exposed_names(metrics.JOB_SECONDS)
        assert exposed_names(metrics.JOBS) == ("ray_cyberimage_jobs",)

    def test_each_has_a_description(self) -> None:
        assert all(metric.description.endswith(".") for metric in all_metrics())

    @pytest.mark.parametrize("metric", all_metrics(), ids=lambda metric: metric.name)
    def test_ray_takes_each(self, metric: metrics.Metric) -> None:
        made = type(metric)(**{key: value for key, value in vars(metric).items() if key != "_of_ray"})

        assert made._of_ray.info["name"] == metric.name


class TestWithoutACluster:
    def test_nothing_is_recorded_and_nothing_fails(self) -> None:
        metrics.JOBS.set(1, model="a", state="pending")
        metrics.SUBMITTED_JOBS.add(model="a")
        with metrics.JOB_SECONDS.timing(model="a"):
            pass

    def test_ray_is_not_imported(self) -> None:
        program = (
            "import sys\nfrom deployments.telemetry import measuring, metrics\nmetrics.SUBMITTED_JOBS.add(model='a')\n"
            "sys.exit('ray' in sys.modules)"
        )

        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

    def test_wrong_label_is_told_all_the_same(self) -> None:
        with pytest.raises(ValueError, match="cyberimage_jobs has the labels model, state"):
            metrics.JOBS.set(1, model="a")


def test_engine_counters_rise_by_what_was_added_since(recorders: dict[str, Recorder]) -> None:
    meter = ReplicaMeter("shapes", 2.5, is_available=True)

    meter.note(engine())
    meter.note(engine(steps=14, images=0))

    assert [value for value, _ in recorders["cyberimage_denoising_steps"].told] == [10, 4]
    assert recorders["cyberimage_padded_rows"].told == []
    assert [value for value, _ in recorders["cyberimage_images_in_progress"].told] == [2, 0]
    assert recorders["cyberimage_load_seconds"].told[-1] == (2.5, {"model": "shapes"})
    assert len({value for value, _ in recorders["cyberimage_cold_start_timestamp_seconds"].told}) == 1


def test_model_that_could_not_be_loaded_is_unavailable_and_no_cold_start(recorders: dict[str, Recorder]) -> None:
    meter = ReplicaMeter("shapes", 2.5, is_available=False)

    meter.note({"model_id": "shapes", "load_failure": "no such file"})

    assert recorders["cyberimage_model_available"].told == [(0, {"model": "shapes"})]
    assert recorders["cyberimage_cold_start_timestamp_seconds"].told == []


def test_attempt_is_measured_from_submission_also_where_it_fails(recorders: dict[str, Recorder]) -> None:
    meter = ReplicaMeter("shapes", 2.5, is_available=True)

    with pytest.raises(RuntimeError), meter.job(claim(seconds_old=100)):
        raise RuntimeError

    ((waited, _),) = recorders["cyberimage_job_wait_seconds"].told
    ((ran, _),) = recorders["cyberimage_job_run_seconds"].told
    ((whole, labels),) = recorders["cyberimage_job_seconds"].told
    assert 100 <= waited <= whole
    assert ran >= 0
    assert labels == {"model": "shapes"}


def test_clocks_that_differ_give_no_negative_wait(recorders: dict[str, Recorder]) -> None:
    with ReplicaMeter("shapes", 2.5, is_available=True).job(claim(seconds_old=-100)):
        pass

    assert recorders["cyberimage_job_wait_seconds"].told == [(0, {"model": "shapes"})]


def test_jobs_are_told_by_model_and_state_zeros_included(recorders: dict[str, Recorder]) -> None:
    note_queue(QueueCounts(pending=2, models={"shapes": StateCounts(pending=2)}), limit=50)

    told = {labels["state"]: value for value, labels in recorders["cyberimage_jobs"].told}
    assert told == {"pending": 2, "processing": 0, "completed": 0, "failed": 0, "cancelled": 0}
    assert recorders["cyberimage_queue_limit"].told == [(50, {})]


def test_rejection_is_counted_under_its_kind(recorders: dict[str, Recorder]) -> None:
    note_rejection(QueueFullError())

    assert recorders["cyberimage_rejected_requests"].told == [(1, {"reason": "queue_full"})]


async def test_measuring_goes_on_after_a_failure(recorders: dict[str, Recorder]) -> None:
    tries = 0

    async def measure() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionError
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await repeat(measure, every_seconds=0)

    assert tries == 2
