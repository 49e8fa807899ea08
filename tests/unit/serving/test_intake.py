"""Jobs that are handed in at once go to the tracker together, and each caller gets its own answer."""

import asyncio

import pytest

from deployments.jobs.records.api_keys import NO_LIMITS, KeyLimits
from deployments.jobs.records.exceptions import QueueFullError, StoreUnavailableError
from serve.services.intake import MOST_TOGETHER, Intake
from tests.support.job_samples import request


class Tracker:
    """Answers a call when it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.refused: dict[str, Exception] = {}
        self.failure: Exception | None = None

    async def submit_each(self, submits, limits):
        self.calls.append([job_id for job_id, _ in submits])
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return [self.refused.get(job_id, job_id) for job_id, _ in submits]


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


async def hand_in(tracker: Tracker, *job_ids: str, limits: KeyLimits = NO_LIMITS) -> list[asyncio.Task]:
    """Hand in the first job, and the others while it is under way."""
    intake = Intake(tracker)
    tasks = [asyncio.create_task(intake.submit(job_ids[0], request(), limits))]
    while not tracker.calls:  # noqa: ASYNC110 - one turn of the loop
        await asyncio.sleep(0)
    tasks += [asyncio.create_task(intake.submit(job_id, request(), limits)) for job_id in job_ids[1:]]
    await asyncio.sleep(0)
    return tasks


async def test_what_comes_during_a_call_goes_together_in_the_next(tracker):
    tasks = await hand_in(tracker, "a", "b", "c", "d")
    tracker.may_answer.set()
    assert await asyncio.gather(*tasks) == ["a", "b", "c", "d"]
    assert tracker.calls == [["a"], ["b", "c", "d"]]


async def test_not_more_together_than_a_call_should_carry(tracker):
    tasks = await hand_in(tracker, *(f"{number}" for number in range(MOST_TOGETHER + 3)))
    tracker.may_answer.set()
    await asyncio.gather(*tasks)
    assert [len(call) for call in tracker.calls] == [1, MOST_TOGETHER, 2]


async def test_a_refusal_is_for_its_own_job(tracker):
    tracker.refused["b"] = QueueFullError()
    tasks = await hand_in(tracker, "a", "b", "c")
    tracker.may_answer.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == ["a", tracker.refused["b"], "c"]


async def test_a_call_that_fails_is_told_to_all_that_were_in_it(tracker):
    tasks = await hand_in(tracker, "a", "b", "c")
    tracker.failure = StoreUnavailableError()
    tracker.may_answer.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [tracker.failure] * 3


async def test_a_caller_that_goes_away_does_not_disturb_the_others(tracker):
    tasks = await hand_in(tracker, "a", "b", "c")
    tasks[0].cancel()
    tasks[1].cancel()
    tracker.may_answer.set()
    assert await tasks[2] == "c"


async def test_jobs_of_keys_with_other_limits_go_alone(tracker):
    tracker.may_answer.set()
    intake = Intake(tracker)
    other = KeyLimits(queued_jobs=2)
    await asyncio.gather(intake.submit("a", request(), NO_LIMITS), intake.submit("b", request(), other))
    assert tracker.calls == [["a"], ["b"]]


async def test_an_intake_that_has_been_idle_goes_on(tracker):
    tracker.may_answer.set()
    intake = Intake(tracker)
    assert [await intake.submit(job_id, request(), NO_LIMITS) for job_id in ("a", "b")] == ["a", "b"]
