"""How jobs end: completed, failed, put back, reaped, cancelled, and what stale attempts may not do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deployments.jobs.records.jobs import JobState
from tests.support.job_samples import LEASE, claimed, complete, image, processing, report, reported, state, submitted


class TestComplete:
    async def test_stores_the_images_with_the_state(self, store, clock):
        fence = await processing(store)
        clock.advance(seconds=7)
        assert await complete(store, "a", fence, [image("a", 1), image("a", 0)])
        job = await store.jobs.get("a")
        assert (job.state, job.step, job.phase, job.completed_at) == (JobState.COMPLETED, 20, None, clock())
        found = await store.images.of_jobs(["a"])
        assert [(one.index, one.job_id, one.model_id, one.created_at) for one in found] == [
            (0, "a", "tiny", clock()),
            (1, "a", "tiny", clock()),
        ]
        assert found[0].metadata == {"seed": 0}

    async def test_repeated_is_true_and_changes_nothing(self, store):
        fence = await processing(store)
        await complete(store, "a", fence, [image("a")])
        await store.images.delete("a-0")
        assert await complete(store, "a", fence, [image("a")])
        assert await store.images.of_jobs(["a"]) == []

    async def test_only_the_current_fence_completes(self, store, clock):
        stale = await processing(store)
        clock.advance(seconds=60)
        assert await store.attempts.reap(3) == ["a"]
        assert not await complete(store, "a", stale, [image("a")])  # put back
        (claim,) = await claimed(store, "2")
        assert not await complete(store, "a", stale, [image("a")])  # claimed again
        assert await complete(store, "a", claim.fence, [image("a")])
        assert not await complete(store, "a", stale, [image("a")])  # completed by the other
        assert len(await store.images.of_jobs(["a"])) == 1

    async def test_a_lapsed_lease_that_nobody_reaped_still_completes(self, store, clock):
        fence = await processing(store)
        clock.advance(days=1)
        assert await complete(store, "a", fence, [])

    async def test_a_cancelled_job_does_not_complete(self, store):
        fence = await processing(store)
        await store.jobs.cancel("a")
        for _ in range(2):
            assert not await complete(store, "a", fence, [image("a")])
            assert await state(store) is JobState.CANCELLED
        assert await store.images.of_jobs(["a"]) == []

    async def test_a_job_that_never_was_does_not_complete(self, store):
        assert not await complete(store, "nobody", 1, [])
        await submitted(store, "a")
        assert not await complete(store, "a", 0, [])


class TestFailAndRelease:
    async def test_what_would_repeat_fails_at_once(self, store, clock):
        fence = await processing(store)
        for _ in range(2):
            assert await store.attempts.fail("a", fence, "Bad input.", max_attempts=None)
            clock.advance(seconds=1)
        job = await store.jobs.get("a")
        assert (job.state, job.message) == (JobState.FAILED, "Bad input.")
        assert job.completed_at == clock() - timedelta(seconds=2)

    async def test_retryable_failures_use_up_the_attempts(self, store):
        await submitted(store, "a")
        for attempt, expected in ((1, JobState.PENDING), (2, JobState.FAILED)):
            (claim,) = await claimed(store, str(attempt))
            for _ in range(2):
                assert await store.attempts.fail("a", claim.fence, "Out of luck.", max_attempts=2)
                assert await state(store) is expected
        assert (await store.jobs.get("a")).message == "Gave up after attempt 2 of 2: Out of luck."

    async def test_release_puts_back_and_then_fails_with_the_reason(self, store):
        await submitted(store, "a")
        await claimed(store, "1")
        for _ in range(2):
            assert await store.attempts.fail("a", 1, "the replica died.", 2)
        job = await store.jobs.get("a")
        assert (job.state, job.started_at) == (JobState.PENDING, None)
        assert job.message == "Waits again after attempt 1 of 2: the replica died."
        await claimed(store, "2")
        assert (await store.jobs.get("a")).message == ""
        assert await store.attempts.fail("a", 2, "the replica died.", 2)
        assert (await store.jobs.get("a")).message == "Gave up after attempt 2 of 2: the replica died."

    async def test_stale_fences_change_nothing(self, store):
        await submitted(store, "a")
        await claimed(store, "1")
        await store.attempts.fail("a", 1, "gone.", 3)
        await claimed(store, "2")
        assert not await store.attempts.fail("a", 1, "Bad input.", max_attempts=None)
        assert not await store.attempts.fail("a", 1, "gone.", 3)
        assert not await store.attempts.confirm_cancel("a", 1)
        assert await state(store) is JobState.PROCESSING
        await complete(store, "a", 2, [])
        assert not await store.attempts.fail("a", 2, "Bad input.", max_attempts=None)
        assert await state(store) is JobState.COMPLETED

    @pytest.mark.parametrize("end", ["fail", "fail for good", "release", "reap", "confirm"])
    async def test_a_requested_cancel_wins(self, store, clock, end):
        fence = await processing(store)
        await store.jobs.cancel("a")
        clock.advance(seconds=60)
        for _ in range(2):
            match end:
                case "fail":
                    assert await store.attempts.fail("a", fence, "Out of luck.", max_attempts=3)
                case "fail for good":
                    assert await store.attempts.fail("a", fence, "Bad input.", max_attempts=None)
                case "release":
                    assert await store.attempts.fail("a", fence, "gone.", 3)
                case "reap":
                    await store.attempts.reap(3)
                case "confirm":
                    assert await store.attempts.confirm_cancel("a", fence)
            assert await state(store) is JobState.CANCELLED


class TestReap:
    async def test_leaves_leases_that_hold(self, store, clock):
        await processing(store)
        clock.advance(seconds=59)
        assert await store.attempts.reap(3) == []

    async def test_fails_a_job_after_its_last_attempt(self, store, clock):
        await submitted(store, "a")
        for attempt in (1, 2, 3):
            await claimed(store, str(attempt))
            clock.advance(seconds=60)
            assert await store.attempts.reap(3) == ["a"]
            assert await store.attempts.reap(3) == []
        job = await store.jobs.get("a")
        assert job.state is JobState.FAILED
        assert job.message == "Gave up after attempt 3 of 3: its lease lapsed, replica no longer reported."
        assert await claimed(store, "4") == []

    async def test_a_clock_that_was_set_back_does_not_make_a_lease_last(self, store, clock):
        fence = await processing(store)
        clock.advance(hours=-5)
        await store.attempts.shorten_leases(LEASE)
        clock.advance(seconds=59)
        assert await store.attempts.reap(3) == []
        await reported(store, [report("a", fence)], LEASE)
        clock.advance(seconds=59)
        assert await store.attempts.reap(3) == []
        clock.advance(seconds=1)
        assert await store.attempts.reap(3) == ["a"]

    async def test_a_clock_that_was_set_forward_costs_an_attempt_and_no_job(self, store, clock):
        fence = await processing(store)
        clock.advance(hours=5)
        assert await store.attempts.reap(3) == ["a"]
        (second,) = await claimed(store, "2")
        assert not await complete(store, "a", fence, [image("a")])
        assert await complete(store, "a", second.fence, [image("a")])


class TestExcuse:
    async def test_puts_back_at_once_and_counts_no_attempt(self, store):
        await submitted(store, "a")
        for attempt in (1, 2, 3):
            (claim,) = await claimed(store, str(attempt))
            assert await store.attempts.excuse("a", claim.fence, "its node was drained.")
            assert (await store.jobs.get("a")).message == "Waits again: its node was drained."
        (last,) = await claimed(store, "4")
        assert await store.attempts.fail("a", last.fence, "gone.", 1)
        assert (await store.jobs.get("a")).message == "Gave up after attempt 1 of 1: gone."

    async def test_stale_attempt_changes_nothing(self, store):
        stale = await processing(store)
        await store.attempts.fail("a", stale, "gone.", 3)
        (current,) = await claimed(store, "2")
        assert not await store.attempts.excuse("a", stale, "its node was drained.")
        assert await complete(store, "a", current.fence, [image("a")])

    async def test_ends_what_was_to_be_cancelled(self, store):
        fence = await processing(store)
        await store.jobs.cancel("a")
        assert await store.attempts.excuse("a", fence, "its node was drained.")
        assert await state(store) is JobState.CANCELLED


class TestReleaseAll:
    async def test_puts_back_what_runs_and_counts_no_attempt(self, store):
        await submitted(store, "a")
        for attempt in (1, 2, 3, 4):
            (claim,) = await claimed(store, str(attempt))
            assert claim.fence == attempt
            assert await store.attempts.release_all("the service was stopped.") == ["a"]
            job = await store.jobs.get("a")
            assert (job.state, job.message) == (JobState.PENDING, "Waits again: the service was stopped.")
        (last,) = await claimed(store, "5")
        assert await store.attempts.fail("a", last.fence, "gone.", 1)
        assert (await store.jobs.get("a")).message == "Gave up after attempt 1 of 1: gone."

    async def test_leaves_all_others(self, store):
        fence = await processing(store, "done")
        await complete(store, "done", fence, [])
        await submitted(store, "waits")
        assert await store.attempts.release_all("the service was stopped.") == []
        assert [await state(store, job_id) for job_id in ("waits", "done")] == [JobState.PENDING, JobState.COMPLETED]

    async def test_ends_what_was_to_be_cancelled(self, store):
        await processing(store)
        await store.jobs.cancel("a")
        await store.attempts.release_all("the service was stopped.")
        assert await state(store) is JobState.CANCELLED


class TestCancel:
    async def test_pending(self, store, clock):
        await submitted(store, "a")
        for _ in range(2):
            job = await store.jobs.cancel("a")
            assert (job.state, job.completed_at) == (JobState.CANCELLED, clock())
        assert await claimed(store, "1") == []

    async def test_processing(self, store):
        fence = await processing(store)
        assert not await store.attempts.confirm_cancel("a", fence)  # nobody asked
        for _ in range(2):
            job = await store.jobs.cancel("a")
            assert (job.state, job.cancel_requested) == (JobState.PROCESSING, True)
        for _ in range(2):
            assert await store.attempts.confirm_cancel("a", fence)
        assert await state(store) is JobState.CANCELLED

    @pytest.mark.parametrize("terminal", [JobState.COMPLETED, JobState.FAILED])
    async def test_of_a_job_that_ended_changes_nothing(self, store, terminal):
        fence = await processing(store)
        if terminal is JobState.COMPLETED:
            await complete(store, "a", fence, [])
        else:
            await store.attempts.fail("a", fence, "Bad input.", max_attempts=None)
        before = await store.jobs.get("a")
        assert before.state is terminal
        assert await store.jobs.cancel("a") == before
        assert not await store.attempts.confirm_cancel("a", fence)
        assert await store.jobs.get("a") == before
