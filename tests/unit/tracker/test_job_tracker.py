"""The tracker without its actor: long polls, the reaper, and what it says about itself."""

from __future__ import annotations

import asyncio
import os

import pytest
from sqlalchemy.exc import IntegrityError

from deployments.jobs.queue.attempts import Attempts
from deployments.jobs.records.exceptions import QueueFullError, StoreUnavailableError
from deployments.jobs.records.jobs import JobPhase, JobRequest, JobState, ProgressReport
from deployments.jobs.store import JobStore
from deployments.jobs.transaction.operations import changes
from deployments.parameters import GenerationSettings
from deployments.settings.service import QueueSettings
from deployments.settings.tracker import TrackerSettings
from deployments.tracker.job_tracker import JobTracker
from tests.support.following import LONG, news_of
from tests.support.job_samples import image
from tests.support.job_trackers import job_tracker, submit_to, tracker_settings

pytestmark = pytest.mark.timeout(60)

REQUEST = JobRequest(
    model_id="tiny",
    prompt="a red circle",
    settings=GenerationSettings(num_images=1, num_inference_steps=4, guidance_scale=7, width=64, height=64, seed=1),
)
CAPACITY = {"tiny": 1}


@pytest.fixture
async def make_tracker(database_url):
    made = []

    def make(**settings) -> JobTracker:
        made.append(job_tracker(**{"database_url": database_url, **settings}))
        return made[-1]

    yield make
    for tracker in made:
        await tracker.close()


@pytest.fixture
def tracker(make_tracker) -> JobTracker:
    return make_tracker(max_attempts=2)


async def waiting(tracker: JobTracker, topic: str, call) -> asyncio.Task:
    """Start a long poll and let it come to where it waits."""
    task = asyncio.create_task(call)
    while topic not in tracker._wakeups._waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def claim_now(tracker: JobTracker, claim_id: str = "claim") -> int:
    (claim,) = await tracker.claim(CAPACITY, "replica", claim_id)
    return claim.fence


async def processing(tracker: JobTracker, job_ids: str) -> dict[str, int]:
    """Have jobs with these ids run; returns their fences."""
    for job_id in job_ids:
        await submit_to(tracker, job_id, REQUEST)
    return {claim.job_id: claim.fence for claim in await tracker.claim({"tiny": len(job_ids)}, "replica", "claim")}


class TestClaim:
    async def test_returns_at_once_when_nothing_is_claimable_and_no_wait_is_allowed(self, tracker):
        assert await tracker.claim(CAPACITY, "replica", "1") == []

    async def test_returns_empty_after_its_wait(self, tracker):
        assert await tracker.claim(CAPACITY, "replica", "1", 0.01) == []

    @pytest.mark.parametrize("cause", ["submit", "fail", "release", "reap"])
    async def test_wakes_when_a_job_becomes_claimable(self, tracker, make_tracker, cause):
        if cause == "reap":
            tracker = make_tracker(lease_seconds=0.03)
        if cause != "submit":
            await submit_to(tracker, "a", REQUEST)
            fence = await claim_now(tracker)
        poll = await waiting(tracker, "queue", tracker.claim(CAPACITY, "replica", "1", LONG))
        match cause:
            case "submit":
                await submit_to(tracker, "a", REQUEST)
            case "fail":
                await tracker.fail("a", fence, "Out of luck.", retryable=True)
            case "release":
                await tracker.release("a", fence, "gone.")
        assert [claim.job_id for claim in await poll] == ["a"]

    async def test_one_job_goes_to_one_of_many(self, tracker):
        polls = [await waiting(tracker, "queue", tracker.claim(CAPACITY, "replica", str(n), LONG)) for n in range(3)]
        await submit_to(tracker, "a", REQUEST)
        done, rest = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        assert [[claim.job_id for claim in task.result()] for task in done] == [["a"]]
        await submit_to(tracker, "b", REQUEST)
        await submit_to(tracker, "c", REQUEST)
        assert sorted(claims[0].job_id for claims in await asyncio.gather(*rest)) == ["b", "c"]
        assert tracker._wakeups._waiting == {}


class TestReport:
    async def test_reports_at_once_share_transactions_and_each_reporter_is_answered(self, tracker):
        fences = await processing(tracker, "abc")
        await tracker.jobs.cancel("b")
        store = await tracker._store()
        write, reporters = store.claims.report, []

        async def counted(together, lease):
            reporters.append(len(together))
            return await write(together, lease)

        store.claims.report = counted
        told = [ProgressReport(job_id=each, fence=fences[each], phase=JobPhase.GENERATING, step=2) for each in "abc"]
        assert await asyncio.gather(*(tracker.report([each]) for each in told)) == [set(), {"b"}, set()]
        assert reporters == [3]


class TestComplete:
    async def test_completions_at_once_share_transactions_and_each_is_answered(self, tracker):
        fences = await processing(tracker, "abcd")
        await tracker.jobs.cancel("b")
        store = await tracker._store()
        write, rounds = store.attempts.complete, []

        async def counted(completions):
            rounds.append(len(completions))
            return await write(completions)

        store.attempts.complete = counted
        wanted = [
            ("a", fences["a"]),
            ("b", fences["b"]),
            ("c", fences["c"] - 1),
            ("d", fences["d"]),
            ("d", fences["d"]),
        ]
        ends = await asyncio.gather(*(tracker.complete(job_id, fence, [image(job_id)]) for job_id, fence in wanted))
        assert ends == [True, False, False, True, True]
        assert rounds == [5]
        states = [(await tracker.jobs.get(job_id)).state for job_id in "abcd"]
        assert states == [JobState.COMPLETED, JobState.CANCELLED, JobState.PROCESSING, JobState.COMPLETED]
        assert [len(await store.images.of_jobs([job_id])) for job_id in "abcd"] == [1, 0, 0, 1]

    async def test_a_completion_that_the_database_refuses_is_the_only_one_that_fails(self, tracker):
        fences = await processing(tracker, "abc")
        made = {"a": image("a"), "b": image("a"), "c": image("c")}
        ends = await asyncio.gather(
            *(tracker.complete(job_id, fences[job_id], [made[job_id]]) for job_id in "abc"), return_exceptions=True
        )
        assert isinstance(ends[1], IntegrityError)
        assert ends[::2] == [True, True]
        states = [(await tracker.jobs.get(job_id)).state for job_id in "abc"]
        assert states == [JobState.COMPLETED, JobState.PROCESSING, JobState.COMPLETED]


class TestChanges:
    async def test_follow_a_job_to_its_end(self, tracker):
        job = await submit_to(tracker, "a", REQUEST)

        async def claim() -> None:
            await claim_now(tracker)

        async def progress() -> None:
            await tracker.report([ProgressReport(job_id="a", fence=1, phase=JobPhase.GENERATING, step=2)])

        async def complete() -> None:
            await tracker.complete("a", 1, [])

        seen = []
        for change in (claim, progress, lambda: tracker.jobs.cancel("a"), complete):
            news = await waiting(tracker, "changes", news_of(tracker, job))
            await change()
            job = await news
            seen.append((job.state, job.phase, job.step, job.cancel_requested))
        assert seen == [
            (JobState.PROCESSING, JobPhase.PREPARING, 0, False),
            (JobState.PROCESSING, JobPhase.GENERATING, 2, False),
            (JobState.PROCESSING, JobPhase.GENERATING, 2, True),
            (JobState.CANCELLED, None, 2, True),
        ]

    async def test_that_are_no_longer_waited_for_leave_nothing(self, tracker):
        changes = await tracker.changes(None, 0)
        poll = await waiting(tracker, "changes", tracker.changes(changes.cursor, LONG))
        poll.cancel()
        await asyncio.wait([poll])
        assert tracker._wakeups._waiting == {}


class TestReaper:
    async def test_fails_a_job_whose_holders_die(self, make_tracker):
        tracker = make_tracker(lease_seconds=0.03, max_attempts=2)
        job = await submit_to(tracker, "a", REQUEST)
        for attempt in ("1", "2"):
            await tracker.claim(CAPACITY, "replica", attempt, LONG)
        while not job.state.is_terminal:
            job = await news_of(tracker, job)
        assert (job.state, job.attempts) == (JobState.FAILED, 2)

    async def test_survives_errors_of_the_store(self, make_tracker, monkeypatch, caplog):
        reap = Attempts.reap
        errors = [StoreUnavailableError("The disk is full."), RuntimeError("A defect.")]

        @changes
        async def reap_at_the_third_time(attempts: Attempts, max_attempts: int) -> list[str]:
            if errors:
                raise errors.pop()
            return await reap(attempts, max_attempts)

        monkeypatch.setattr(Attempts, "reap", reap_at_the_third_time)
        tracker = make_tracker(lease_seconds=0.03)
        await submit_to(tracker, "a", REQUEST)
        await claim_now(tracker)
        assert await tracker.claim(CAPACITY, "replica", "1", LONG)
        assert "The disk is full." in caplog.text


class TestSelf:
    async def test_describes_itself(self, tracker, database_url):
        settings = tracker_settings(database_url, max_attempts=2)
        assert await tracker.describe() == {"fingerprint": settings.fingerprint, "pid": os.getpid(), "database": "ok"}

    def test_other_settings_make_another_fingerprint(self, database_url):
        def fingerprint(**queue) -> str:
            return TrackerSettings(database_url=database_url, queue=QueueSettings(**queue)).fingerprint

        assert fingerprint(lease_seconds=60) == fingerprint(lease_seconds=60.0)
        assert fingerprint(limit=1) != fingerprint()

    async def test_lives_without_its_database_and_opens_it_later(self, make_tracker, tmp_path):
        folder = tmp_path / "late"
        tracker = make_tracker(database_url=f"sqlite+aiosqlite:///{folder}/jobs.db")
        assert "unable to open database file" in (await tracker.describe())["database"]
        with pytest.raises(StoreUnavailableError):
            await tracker.jobs.get("a")
        folder.mkdir()
        assert (await tracker.describe())["database"] == "ok"

    async def test_first_calls_at_once_open_one_store(self, tracker, monkeypatch):
        opened = []
        open_store = JobStore.open

        async def count(*args) -> JobStore:
            opened.append(args)
            return await open_store(*args)

        monkeypatch.setattr(JobStore, "open", count)
        await asyncio.gather(*(tracker.counts.by_state() for _ in range(5)))
        assert len(opened) == 1

    async def test_comes_back_with_its_jobs(self, make_tracker):
        await submit_to(make_tracker(), "a", REQUEST)
        assert (await make_tracker().jobs.get("a")).id == "a"

    async def test_refuses_what_is_above_its_limit(self, make_tracker):
        tracker = make_tracker(limit=1)
        await submit_to(tracker, "a", REQUEST)
        with pytest.raises(QueueFullError):
            await submit_to(tracker, "b", REQUEST)
