"""How fast models work by what is reported, and the time to a job's end that follows."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime

import pytest

from benchmarks import eta
from deployments.jobs.records.jobs import Claim, Job, JobPhase, JobState, ProgressReport
from deployments.tracker.step_rates import StepRates
from tests.support.job_samples import request


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def rates(seconds) -> StepRates:
    return StepRates(seconds)


def claim(job_id: str = "a", fence: int = 1, steps: int = 10) -> Claim:
    asked = request(num_images=1, steps=steps)
    return Claim(job_id=job_id, request=asked, fence=fence, created_at=datetime(2030, 1, 1, tzinfo=UTC))


def report(job_id: str = "a", step: int = 0, phase: JobPhase = JobPhase.GENERATING, fence: int = 1) -> ProgressReport:
    return ProgressReport(job_id=job_id, fence=fence, phase=phase, step=step)


def job(state: JobState, step: int = 0, steps: int = 10) -> Job:
    asked = request(num_images=1, steps=steps)
    return Job(
        id="a", request=asked, state=state, step=step, total_steps=steps, created_at=datetime(2030, 1, 1, tzinfo=UTC)
    )


def run_at(rates: StepRates, seconds: Seconds, steps_per_second: float, jobs: int = 1) -> None:
    """Have jobs of ten steps each run to their ends, all at once."""
    ids = [f"job {number}" for number in range(jobs)]
    for job_id in ids:
        rates.claimed(claim(job_id))
    for step in range(1, 11):
        seconds.now += 1 / steps_per_second
        for job_id in ids:
            rates.reported(report(job_id, step))
    for job_id in ids:
        rates.completed(job_id)


class TestRate:
    def test_is_not_known_before_something_ran(self, rates):
        assert rates.rate_of_one("tiny") is None
        rates.claimed(claim())
        assert rates.rate_of_one("tiny") is None
        assert rates.seconds_left(job(JobState.PROCESSING), None, []) is None

    def test_is_that_of_a_running_job_however_many_run(self, rates, seconds):
        run_at(rates, seconds, 4.0, jobs=3)
        assert rates.rate_of_one("tiny") == pytest.approx(4.0)
        assert rates.rate_of_one("other") is None

    def test_follows_what_happened_lately(self, rates, seconds):
        for _ in range(20):
            run_at(rates, seconds, 1.0)
        for _ in range(80):
            run_at(rates, seconds, 2.0)
        assert rates.rate_of_one("tiny") == pytest.approx(2.0, rel=0.05)

    def test_loading_a_model_does_not_count(self, rates, seconds):
        rates.claimed(claim())
        rates.reported(report(phase=JobPhase.LOADING_MODEL))
        seconds.now += 600
        rates.reported(report())
        seconds.now += 5
        rates.reported(report(step=10))
        assert rates.rate_of_one("tiny") == pytest.approx(2.0)

    def test_two_who_report_the_same_job_do_not_count_twice(self, rates, seconds):
        rates.claimed(claim())
        for step in range(1, 11):
            seconds.now += 0.5
            rates.reported(report(step=step))
            rates.reported(report(step=0, phase=JobPhase.LOADING_MODEL))  # the dispatcher, who knows less
        assert rates.rate_of_one("tiny") == pytest.approx(2.0)

    def test_a_claim_that_is_told_again_changes_nothing(self, rates, seconds):
        rates.claimed(claim())
        seconds.now += 4
        rates.reported(report(step=8))
        rates.claimed(claim())
        seconds.now += 1
        rates.reported(report(step=10))
        assert rates.rate_of_one("tiny") == pytest.approx(2.0)

    def test_stale_attempts_and_jobs_that_stopped_do_not_count(self, rates, seconds):
        rates.claimed(claim(fence=2))
        seconds.now += 1
        rates.reported(report(step=9, fence=1))
        rates.stopped("a")
        rates.reported(report(step=9, fence=2))
        rates.reported(report("nobody", step=9))
        assert rates.rate_of_one("tiny") is None


class TestSecondsLeft:
    @pytest.fixture(autouse=True)
    def two_steps_a_second(self, rates, seconds):
        run_at(rates, seconds, 2.0)

    def test_of_a_running_job(self, rates):
        assert rates.seconds_left(job(JobState.PROCESSING, step=4), None, [6, 3]) == pytest.approx(3.0)

    def test_of_the_next_job_begins_when_the_first_place_is_free(self, rates):
        assert rates.seconds_left(job(JobState.PENDING), 1, [6, 2]) == pytest.approx((2 + 10) / 2)
        assert rates.seconds_left(job(JobState.PENDING), 2, [6, 2]) == pytest.approx((6 + 10) / 2)

    def test_behind_others_waits_for_their_steps_too(self, rates):
        # Of ten steps each, as jobs were lately: two places, four jobs ahead, so two rounds.
        assert rates.seconds_left(job(JobState.PENDING, steps=30), 5, [6, 2]) == pytest.approx((2 + 20 + 30) / 2)

    def test_with_nothing_running_is_its_own_steps(self, rates):
        assert rates.seconds_left(job(JobState.PENDING), 1, []) == pytest.approx(5.0)

    def test_is_not_known_without_a_position_or_after_the_end(self, rates):
        assert rates.seconds_left(job(JobState.PENDING), None, []) is None
        assert rates.seconds_left(job(JobState.COMPLETED), None, []) is None


async def test_under_a_steady_load_the_median_error_is_below_a_quarter():
    errors = await eta.measure(120, seed=3)
    for state in ("pending", "processing"):
        assert len(errors[state]) > 100
        assert statistics.median(errors[state]) < 0.25
