"""Pauses between attempts, and jobs that expire: what time alone does to a job that waits."""

from __future__ import annotations

import pytest

from deployments.jobs.queue.deadlines import JOBS_AT_ONCE
from deployments.jobs.records.jobs import JobState
from deployments.jobs.store import JobStore
from deployments.jobs.transaction.backoff import Backoff
from deployments.tracker.job_tracker import JobTracker
from tests.support.following import news_of
from tests.support.job_samples import LIMIT, claimed, complete, request, state, submit, submitted
from tests.support.job_trackers import job_tracker, submit_to

LONG = 100.0  # seconds that no test waits for
BASE = 8.0


@pytest.fixture
async def store(database_url, clock):
    """A store whose pauses are 4, 8, 10, 10... seconds: half of a span of 8, doubled up to 20."""
    store = await JobStore.open(database_url, clock, Backoff(BASE, 20.0, jitter=lambda: 0.5))
    yield store
    await store.close()


class TestBackoff:
    def test_a_span_doubles_up_to_the_cap_and_the_pause_is_a_share_of_it(self):
        backoff = Backoff(BASE, 20.0, jitter=lambda: 0.5)
        pauses = [backoff.pause_after(attempt).total_seconds() for attempt in (1, 2, 3, 10_000)]
        assert pauses == [4.0, 8.0, 10.0, 10.0]

    def test_jitter_takes_the_whole_span(self):
        shares = iter([0.0, 1.0])
        backoff = Backoff(BASE, 20.0, jitter=lambda: next(shares))
        assert [backoff.pause_after(1).total_seconds() for _ in range(2)] == [0.0, BASE]


class TestPause:
    async def test_a_job_that_failed_waits_and_says_until_when(self, store, clock):
        await submitted(store, "a")
        await claimed(store, "1")
        await store.attempts.fail("a", 1, "Out of luck.", max_attempts=3)
        job = await store.jobs.get("a")
        assert job.state is JobState.PENDING
        assert job.message == "Waits again after attempt 1 of 3, from 2030-01-01T00:00:04Z on: Out of luck."
        assert await store.jobs.position("a") is None
        clock.advance(seconds=3.9)
        assert await claimed(store, "early") == []
        clock.advance(seconds=0.1)
        (claim,) = await claimed(store, "in time")
        assert (claim.job_id, claim.fence) == ("a", 2)

    @pytest.mark.parametrize("how", ["release", "reap"])
    async def test_a_lost_attempt_pauses_too(self, store, clock, how):
        await submitted(store, "a")
        await claimed(store, "1")
        if how == "release":
            await store.attempts.fail("a", 1, "gone.", 3)
        else:
            clock.advance(seconds=60)
            await store.attempts.reap(3)
        assert (await store.jobs.get("a")).not_before is not None
        assert await claimed(store, "2") == []

    async def test_it_blocks_neither_its_lane_nor_others(self, store):
        await submitted(store, "a1", "a2", client="ann")
        await submitted(store, "b1", client="bob")
        await claimed(store, "1")
        await store.attempts.fail("a1", 1, "gone.", 3)
        assert [await store.jobs.position(job_id) for job_id in ("a1", "a2", "b1")] == [None, 2, 1]
        assert [claim.job_id for claim in await claimed(store, "2", 5)] == ["b1", "a2"]

    async def test_it_keeps_its_age(self, store, clock):
        await submitted(store, "a")
        await claimed(store, "1")
        await submitted(store, "b", "c")
        await store.attempts.fail("a", 1, "gone.", 3)
        clock.advance(seconds=4)
        assert [claim.job_id for claim in await claimed(store, "2", 3)] == ["a", "b", "c"]

    async def test_it_counts_as_pending_and_can_be_cancelled(self, store, clock):
        await submitted(store, "a")
        await claimed(store, "1")
        await store.attempts.fail("a", 1, "gone.", 3)
        assert (await store.counts.by_state()).pending == 1
        await store.jobs.cancel("a")
        assert (await store.counts.by_state()).pending == 0
        clock.advance(days=1)
        await store.deadlines.settle()
        assert await claimed(store, "2") == []
        await submitted(store, "b")
        assert await store.jobs.position("b") == 1

    async def test_a_job_that_kills_its_replicas_fails_alone(self, store, clock):
        await submitted(store, "poison", "a", "b")
        for attempt in range(3):
            taken = {claim.job_id: claim.fence for claim in await claimed(store, f"claim {attempt}", 3)}
            assert "poison" in taken
            clock.advance(seconds=1)
            for job_id, fence in taken.items():
                if job_id == "poison":
                    await store.attempts.fail(job_id, fence, "the replica was lost.", 3)
                else:
                    assert await complete(store, job_id, fence, [])
            clock.advance(seconds=20)
        assert (await store.jobs.get("poison")).message == "Gave up after attempt 3 of 3: the replica was lost."
        assert {await state(store, job_id) for job_id in ("a", "b")} == {JobState.COMPLETED}


class TestExpiry:
    async def expiring(self, store: JobStore, job_id: str, seconds: int, client: str = "ann") -> None:
        wanted = request(client=client).model_copy(update={"expires_in": seconds})
        await submit(store, job_id, wanted, LIMIT)

    async def test_a_job_that_waited_too_long_fails_and_is_not_claimed(self, store, clock):
        await self.expiring(store, "a", 10)
        clock.advance(seconds=10)
        assert await claimed(store, "late") == []
        job = await store.jobs.get("a")
        assert (job.state, job.message) == (JobState.FAILED, "It expired before it could start.")
        assert (job.expires_at, job.completed_at) == (clock(), clock())

    async def test_one_that_started_in_time_goes_on(self, store, clock):
        await self.expiring(store, "a", 10)
        clock.advance(seconds=9)
        await claimed(store, "1")
        clock.advance(seconds=9)
        await store.deadlines.settle()
        assert await complete(store, "a", 1, [])

    async def test_one_that_pauses_between_attempts_expires_too(self, store, clock):
        await self.expiring(store, "a", 3)
        await claimed(store, "1")
        await store.attempts.fail("a", 1, "gone.", 3)
        clock.advance(seconds=3)
        await store.deadlines.settle()
        assert await state(store) is JobState.FAILED
        assert (await store.counts.by_state()).failed == 1

    async def test_those_in_front_do_not_hold_up_the_others(self, store, clock):
        for number in range(JOBS_AT_ONCE - 1):
            await self.expiring(store, f"old {number}", 1, client=f"client {number % 3}")
        await submitted(store, "b", client="bob")
        clock.advance(seconds=1)
        assert [claim.job_id for claim in await claimed(store, "1")] == ["b"]

    async def test_none_is_claimed_where_more_expire_at_once_than_are_looked_at(self, store, clock):
        for number in range(JOBS_AT_ONCE + 5):
            await self.expiring(store, f"old {number}", 1)
        clock.advance(seconds=1)
        assert [await claimed(store, str(number), 5) for number in range(2)] == [[], []]
        assert (await store.counts.by_state()).failed == JOBS_AT_ONCE + 5

    async def test_the_next_deadline_is_the_first_of_both_kinds(self, store, clock):
        assert await store.deadlines.next() is None
        await self.expiring(store, "a", 60)
        assert (await store.deadlines.next()).seconds_left == 60
        await submitted(store, "b", client="bob")
        await claimed(store, "1", 2)
        await store.attempts.fail("b", 1, "gone.", 3)
        await store.attempts.fail("a", 1, "gone.", 3)
        clock.advance(seconds=1)
        assert (await store.deadlines.next()).seconds_left == 3


@pytest.mark.timeout(60)
class TestTimer:
    """The tracker's own, by the real clock."""

    @pytest.fixture
    async def make_tracker(self, database_url):
        made = []

        def make(**settings) -> JobTracker:
            made.append(job_tracker(database_url, **settings))
            return made[-1]

        yield make
        for tracker in made:
            await tracker.close()

    async def test_a_claim_that_waits_is_given_the_job_when_its_pause_is_over(self, make_tracker):
        tracker = make_tracker(retry_base_seconds=0.05)
        await submit_to(tracker, "a", request())
        await tracker.claim({"tiny": 1}, "replica", "1")
        await tracker.release("a", 1, "gone.")
        (claim,) = await tracker.claim({"tiny": 1}, "replica", "2", LONG)
        assert (claim.job_id, claim.fence) == ("a", 2)

    async def test_who_follows_a_job_hears_that_it_expired(self, make_tracker):
        tracker = make_tracker()
        await submit_to(tracker, "a", request().model_copy(update={"expires_in": 1}))
        job = await tracker.jobs.get("a")
        while not job.state.is_terminal:
            job = await news_of(tracker, job)
        assert job.message == "It expired before it could start."
