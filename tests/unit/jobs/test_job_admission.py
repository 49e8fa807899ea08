"""Who is let into the queue: limits, how long to wait, and batches that come in whole."""

from __future__ import annotations

import pytest

from deployments.jobs.queue.limits import LONGEST_SECONDS, UNMEASURED_SECONDS, QueueLimits
from deployments.jobs.records.exceptions import ClientQueueFullError, QueueFullError
from deployments.jobs.records.jobs import JobState
from tests.support.job_samples import LIMIT, claimed, complete, request, submit, submitted


async def refusal(store, limits: QueueLimits, count: int = 1, **fields) -> QueueFullError:
    wanted = {f"new {number}": request(**fields) for number in range(count)}
    with pytest.raises(QueueFullError) as error:
        await store.queue.submit(wanted, limits)
    return error.value


async def run_one(store, clock, number: int, seconds: float, **fields) -> None:
    """A job that is submitted, and ends ``seconds`` later."""
    await submitted(store, f"run {number}", **fields)
    await claimed(store, f"run {number}", model_id=fields.get("model_id", "tiny"))
    clock.advance(seconds=seconds)
    await complete(store, f"run {number}", 1, [])


class TestLimits:
    async def test_of_the_whole_queue(self, store):
        await submitted(store, "a", model_id="tiny")
        await submitted(store, "b", model_id="huge")
        error = await refusal(store, QueueLimits(total=2))
        assert (error.status, str(error)) == (503, "The queue is full (2 may wait); try again later.")

    async def test_of_a_model(self, store):
        limits = QueueLimits(total=100, per_model=2)
        await submitted(store, "a", "b", model_id="huge")
        error = await refusal(store, limits, model_id="huge")
        assert (error.status, str(error)) == (503, "The queue of huge is full (2 may wait); try again later.")
        assert await submit(store, "c", request(model_id="tiny"), limits)

    async def test_of_a_client_at_all_models(self, store):
        limits = QueueLimits(total=100, per_client=2)
        await submitted(store, "a", model_id="tiny")
        await submitted(store, "b", model_id="huge")
        error = await refusal(store, limits)
        assert type(error) is ClientQueueFullError
        assert (error.status, str(error)) == (429, "You have too many jobs waiting (2 may wait); try again later.")
        assert await submit(store, "c", request(client="bob"), limits)
        await claimed(store, "1")
        assert await submit(store, "d", request(), limits)

    async def test_a_repeat_and_a_job_that_is_put_back_are_never_refused(self, store):
        full = QueueLimits(total=1, per_model=1, per_client=1)
        await submitted(store, "a")
        await claimed(store, "1")
        await submitted(store, "b")
        assert await submit(store, "a", request(), full)
        await store.attempts.fail("a", 1, "gone.", 3)
        assert (await store.jobs.get("a")).state is JobState.PENDING


class TestRetryAfter:
    async def test_without_measurement_it_is_a_guess(self, store):
        await submitted(store, "a")
        assert (await refusal(store, QueueLimits(total=1))).retry_after_seconds == UNMEASURED_SECONDS

    async def test_is_the_time_in_which_so_many_jobs_ended(self, store, clock):
        for number in range(5):
            await run_one(store, clock, number, 6)
        await submitted(store, "a", "b")
        # Five ended within the 24 s since the first of them did.
        assert (await refusal(store, QueueLimits(total=2))).retry_after_seconds == 5
        assert (await refusal(store, QueueLimits(total=2), count=2)).retry_after_seconds == 10

    async def test_is_measured_at_the_queue_that_is_full(self, store, clock):
        for number in range(4):
            await run_one(store, clock, number, 3, model_id="tiny", client="ann")
        await run_one(store, clock, 4, 3, model_id="huge", client="bob")
        await submitted(store, "a", model_id="huge", client="cat")
        of_model = await refusal(store, QueueLimits(total=9, per_model=1), model_id="huge")
        of_client = await refusal(store, QueueLimits(total=9, per_client=1), client="cat")
        assert (of_model.retry_after_seconds, of_client.retry_after_seconds) == (12, UNMEASURED_SECONDS)

    async def test_has_a_floor_and_a_ceiling(self, store, clock):
        await run_one(store, clock, 0, 0.001)
        clock.advance(seconds=0.001)
        await submitted(store, "a")
        assert (await refusal(store, QueueLimits(total=1))).retry_after_seconds == 1
        clock.advance(seconds=500)
        assert (await refusal(store, QueueLimits(total=1), count=5)).retry_after_seconds == LONGEST_SECONDS

    async def test_neither_old_ends_nor_cancelled_jobs_count(self, store, clock):
        await run_one(store, clock, 0, 1)
        clock.advance(minutes=11)
        await submitted(store, "a", "b")
        await store.jobs.cancel("b")
        assert (await refusal(store, QueueLimits(total=1))).retry_after_seconds == UNMEASURED_SECONDS


class TestBatch:
    async def test_jobs_come_in_in_their_order(self, store):
        wanted = {
            "a": request(client="ann"),
            "b": request(client="ann", model_id="huge"),
            "c": request(client="ann", prompt="a blue ring"),
        }
        made = await store.queue.submit(wanted, LIMIT)
        assert [(job.id, job.request) for job in made] == list(wanted.items())
        assert [await store.jobs.position(job_id) for job_id in wanted] == [1, 1, 2]
        assert (await store.counts.by_state()).pending == 3

    async def test_all_or_none_where_there_is_no_room_for_all(self, store):
        await submitted(store, "a")
        await refusal(store, QueueLimits(total=3), count=3)
        assert (await store.counts.by_state()).total == 1
        assert len(await store.queue.submit({"b": request(), "c": request()}, QueueLimits(total=3))) == 2

    async def test_where_an_id_is_taken_nothing_is_added(self, store):
        first = await store.queue.submit({"a": request(), "b": request()}, LIMIT)
        assert await store.queue.submit({"a": request(), "b": request()}, LIMIT) == first
        assert await store.queue.submit({"a": request(), "b": request(), "c": request()}, LIMIT) == first
        assert (await store.counts.by_state()).total == 2


class TestEach:
    async def test_all_that_there_is_room_for(self, store):
        ends = await store.queue.submit_each([("b", request()), ("a", request(client="bob"))], LIMIT)
        assert [job.id for job in ends] == ["b", "a"]
        assert [await store.jobs.position(job_id) for job_id in ("b", "a")] == [1, 2]
        assert (await store.counts.by_state()).pending == 2

    async def test_one_that_is_refused_does_not_keep_the_others_out(self, store):
        limits = QueueLimits(total=100, per_client=1)
        wanted = [("a", request()), ("b", request()), ("c", request(client="bob"))]
        first, refused, third = await store.queue.submit_each(wanted, limits)
        assert (first.id, type(refused), third.id) == ("a", ClientQueueFullError, "c")
        counts = await store.counts.by_state()
        assert (counts.pending, counts.total) == (2, 2)
        assert [claim.job_id for claim in await claimed(store, "1", 3)] == ["a", "c"]

    async def test_those_that_are_there_already_and_those_that_come_twice(self, store):
        await submitted(store, "a", prompt="a red circle")
        wanted = [("b", request()), ("a", request(prompt="a blue cross")), ("b", request(prompt="a blue cross"))]
        new, old, again = await store.queue.submit_each(wanted, LIMIT)
        assert [job.id for job in (new, old, again)] == ["b", "a", "b"]
        assert {job.request.prompt for job in (new, old, again)} == {"a red circle"}
        assert (await store.counts.by_state()).pending == 2
