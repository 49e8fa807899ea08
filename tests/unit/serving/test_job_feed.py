"""One subscription for all who watch: how much it asks of the tracker, and that it never leaves anybody hanging."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from deployments.jobs.parts import OpenParts
from deployments.jobs.queue.jobs import Jobs
from deployments.jobs.records.exceptions import UnknownJobError
from deployments.jobs.records.jobs import JobPhase, JobState, ProgressReport
from deployments.jobs.transaction.operations import reads, set_parts
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.remote import TrackerUnavailableError
from serve.services.job_feed import JobFeed, Rhythm
from serve.services.watchers import MOST_UNREAD_JOBS, UnreadJobsError, Watcher
from tests.support.job_samples import request
from tests.support.job_trackers import job_tracker, submit_to

pytestmark = pytest.mark.timeout(60)

NEVER = 1000.0  # seconds
AT_CHANGES = Rhythm(rest=0.0, refresh=NEVER)


class CountedTracker:
    """A tracker whose calls are counted, and fail while it is away."""

    def __init__(self, tracker: JobTracker) -> None:
        self.tracker = tracker
        self.calls: Counter[str] = Counter()
        self.is_away = False
        set_parts(self, OpenParts, self.call)

    def __getattr__(self, name: str):
        async def call(*args, **kwargs):
            self.calls[name] += 1
            if self.is_away:
                raise TrackerUnavailableError
            return await getattr(self.tracker, name)(*args, **kwargs)

        return call


@pytest.fixture
async def tracker(tmp_path):
    real = job_tracker(f"sqlite+aiosqlite:///{tmp_path}/jobs.db")
    yield CountedTracker(real)
    await real.close()


@pytest.fixture
async def make_feed(tracker):
    made = []

    def make(rhythm: Rhythm = AT_CHANGES) -> JobFeed:
        made.append(JobFeed(tracker, rhythm))
        return made[-1]

    yield make
    for feed in made:
        await feed.close()


async def run(tracker: CountedTracker, claim_id: str = "claim"):
    (claim,) = await tracker.tracker.claim({"tiny": 1}, "replica", claim_id)
    return claim


async def report(tracker: CountedTracker, claim, step: int) -> None:
    told = ProgressReport(job_id=claim.job_id, fence=claim.fence, phase=JobPhase.GENERATING, step=step)
    await tracker.tracker.report([told])


async def step_of(watcher: Watcher, step: int) -> None:
    while (await watcher.next())[0].job.step != step:
        pass


class TestCost:
    async def test_a_thousand_watchers_ask_no_more_than_one(self, tracker, make_feed):
        feed = make_feed()
        await submit_to(tracker.tracker, "a", request())
        claim = await run(tracker)
        with ExitStack() as stack:
            watchers = [stack.enter_context(feed.watch_job("a")) for _ in range(1000)]
            await asyncio.gather(*(step_of(watcher, 0) for watcher in watchers))
            tracker.calls.clear()
            for step in range(1, 6):
                await report(tracker, claim, step)
                await asyncio.gather(*(step_of(watcher, step) for watcher in watchers))

        assert tracker.calls["get_many"] <= 6
        assert tracker.calls["changes"] <= 6
        assert set(tracker.calls) == {"get_many", "changes"}

    async def test_many_watched_jobs_are_looked_at_in_one_call(self, tracker, make_feed):
        feed = make_feed()
        for number in range(200):
            await submit_to(tracker.tracker, f"job {number}", request())
        tracker.calls.clear()
        with ExitStack() as stack:
            watchers = [stack.enter_context(feed.watch_job(f"job {number}")) for number in range(200)]
            await asyncio.gather(*(watcher.next() for watcher in watchers))
        # The first look, and one more for the gap that the first cursor is.
        assert tracker.calls["get_many"] <= 2

    async def test_changes_of_jobs_that_nobody_watches_are_not_looked_at(self, tracker, make_feed):
        feed = make_feed()
        for job_id in ("a", "b"):
            await submit_to(tracker.tracker, job_id, request())
        with feed.watch_job("b") as watcher:
            await watcher.next()
            claim = await run(tracker)
            assert claim.job_id == "a"
            tracker.calls.clear()
            for step in range(5):
                await report(tracker, claim, step)
            await tracker.tracker.jobs.cancel("b")
            while (await watcher.next())[0].job.state is not JobState.CANCELLED:
                pass
        assert tracker.calls["get_many"] <= 2

    async def test_nothing_is_asked_while_nobody_watches(self, tracker, make_feed):
        feed = make_feed(Rhythm(rest=0.0, refresh=0.01, wait=NEVER))
        await submit_to(tracker.tracker, "a", request())
        with feed.watch_job("a") as watcher:
            await watcher.next()
        following = feed._tasks[0]
        await asyncio.wait([following])

        assert feed._tasks == []
        with feed.watch_job("a") as watcher:
            assert (await watcher.next())[0].job.id == "a"


class TestNobodyHangs:
    async def test_the_tracker_is_away_for_a_while(self, tracker, make_feed):
        feed = make_feed(Rhythm(rest=0.0, refresh=NEVER, wait=0.01, pause=0.001))
        await submit_to(tracker.tracker, "a", request())
        with feed.watch_job("a") as watcher:
            await watcher.next()
            tracker.is_away = True
            tracker.calls.clear()
            while not tracker.calls["changes"]:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await tracker.tracker.jobs.cancel("a")
            tracker.is_away = False
            while (await watcher.next())[0].job.state is not JobState.CANCELLED:
                pass

    async def test_who_asks_while_it_is_away_is_told_so(self, tracker, make_feed):
        tracker.is_away = True
        with pytest.raises(TrackerUnavailableError):
            await make_feed().view("a")

    async def test_too_many_changes_at_once(self, tracker, make_feed, monkeypatch):
        monkeypatch.setattr(tracker.tracker._changes, "_most_jobs", 1)
        feed = make_feed(Rhythm(rest=0.0, refresh=NEVER))
        for job_id in ("a", "b", "c"):
            await submit_to(tracker.tracker, job_id, request())
        with feed.watch_job("a") as watcher:
            await watcher.next()
            for job_id in ("a", "b", "c"):
                await tracker.tracker.jobs.cancel(job_id)
            while (await watcher.next())[0].job.state is not JobState.CANCELLED:
                pass

    async def test_a_job_that_is_not_there(self, tracker, make_feed):
        with pytest.raises(UnknownJobError):
            await make_feed().view("nobody")

    async def test_one_who_does_not_read_keeps_the_newest_of_each_job_and_not_too_many(self, tracker, make_feed):
        feed = make_feed()
        await submit_to(tracker.tracker, "a", request())
        claim = await run(tracker)
        with feed.watch_job("a") as slow, feed.watch_job("a") as quick:
            for step in range(1, 5):
                await report(tracker, claim, step)
                await step_of(quick, step)
            assert [view.job.step for view in await slow.next()] == [4]

        with feed.watch_client("ann", datetime.now(UTC)) as watcher:
            (view,) = await watcher.next()
            for number in range(MOST_UNREAD_JOBS + 1):
                job = view.job.model_copy(update={"id": f"job {number}"})
                watcher.offer(type(view)(job))
            with pytest.raises(UnreadJobsError):
                await watcher.next()


class TestPositions:
    async def test_of_many_waiting_jobs_each_has_its_turn(self, tracker, make_feed, monkeypatch):
        monkeypatch.setattr("deployments.jobs.queue.views.MOST_POSITIONS", 2)
        feed = make_feed(Rhythm(rest=0.0, refresh=0.005))
        for number in range(5):
            await submit_to(tracker.tracker, f"job {number}", request())
        with ExitStack() as stack:
            for number in range(5):
                watcher = stack.enter_context(feed.watch_job(f"job {number}"))
                while (await watcher.next())[0].queue_position != number + 1:
                    pass
                # Once it is told it stays, also in the looks that do not ask for it.
                for _ in range(3):
                    assert (await watcher.next())[0].queue_position == number + 1


class TestClients:
    async def test_jobs_of_a_client_that_ended_since(self, tracker, make_feed):
        feed = make_feed()
        for job_id, client in (("a", "ann"), ("b", "ann"), ("c", "bob")):
            await submit_to(tracker.tracker, job_id, request(client=client))
        await tracker.tracker.jobs.cancel("a")
        with feed.watch_client("ann", datetime.now(UTC) - timedelta(minutes=1)) as watcher:
            seen = {view.job.id for view in await watcher.next()}
            assert seen == {"a", "b"}
        with feed.watch_client("ann", datetime.now(UTC) + timedelta(minutes=1)) as watcher:
            assert [view.job.id for view in await watcher.next()] == ["b"]

    async def test_who_comes_back_while_others_are_looked_at_misses_nothing(self, tracker, make_feed, monkeypatch):
        feed = make_feed()
        await submit_to(tracker.tracker, "a", request(client="ann"))
        await tracker.tracker.jobs.cancel("a")
        asked, may_answer = asyncio.Event(), asyncio.Event()
        of_clients = Jobs.of_clients

        @reads
        async def slowly(jobs, since):
            asked.set()
            await may_answer.wait()
            return await of_clients(jobs, since)

        monkeypatch.setattr(Jobs, "of_clients", slowly)
        with feed.watch_client("ann", datetime.now(UTC) + timedelta(minutes=1)):
            await asked.wait()
            with feed.watch_client("ann", datetime.now(UTC) - timedelta(minutes=1)) as back:
                may_answer.set()
                assert [view.job.id for view in await back.next()] == ["a"]
