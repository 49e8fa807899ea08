"""What a dispatcher makes of a replica that dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from deployments.tracker.job_tracker import JobTracker
from serve.dispatch import Dispatcher
from tests.support.following import news_of
from tests.support.job_samples import request
from tests.support.job_trackers import job_tracker, submit_to

pytestmark = pytest.mark.timeout(60)


class DyingModel:
    """A handle of a deployment whose replica dies under the first call; later calls never end."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._calls = 0

    @property
    def generate(self) -> DyingModel:
        return self

    def remote(self, claim: Any) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls += 1
        if self._calls == 1:
            answer.set_exception(self._error)
        return answer


@pytest.fixture
async def tracker(tmp_path: Path) -> AsyncIterator[JobTracker]:
    tracker = job_tracker(f"sqlite+aiosqlite:///{tmp_path}/jobs.db", max_attempts=1)
    yield tracker
    await tracker.close()


async def outcome(tracker: JobTracker, error: Exception) -> str:
    """What becomes of a job, which may be tried once, when its replica has died in this way."""
    asked = request()
    job = await submit_to(tracker, "a", asked)
    dispatcher = Dispatcher(tracker, {asked.model_id: DyingModel(error)}, {asked.model_id: 1}, 0.01, 100)
    dispatcher.start()
    while job.attempts < 2 and not job.state.is_terminal:
        job = await news_of(tracker, job)
    await dispatcher.close()
    return f"{job.state}, attempt {job.attempts}"


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (RayActorError(preempted=True), "processing, attempt 2"),
        (RayActorError(preempted=False), "failed, attempt 1"),
        (RuntimeError("Out of luck."), "failed, attempt 1"),
    ],
    ids=["with a drained node", "by itself", "for another reason"],
)
async def test_only_the_drain_of_its_node_costs_a_job_no_attempt(
    tracker: JobTracker, error: Exception, after: str
) -> None:
    assert await outcome(tracker, error) == after
