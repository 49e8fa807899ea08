"""Into the queue and out of it: submits, turns, claims, reports, all at once too."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from deployments.jobs.queue.limits import QueueLimits
from deployments.jobs.records.exceptions import QueueFullError, UnknownJobError
from deployments.jobs.records.jobs import Claim, Job, JobPhase, JobState
from deployments.jobs.store import JobStore
from tests.support.job_samples import (
    LEASE,
    LIMIT,
    claimed,
    complete,
    processing,
    report,
    reported,
    request,
    state,
    submit,
    submitted,
)


class TestSubmit:
    async def test_gives_back_what_was_stored(self, store, clock):
        job = await submit(store, "a", request(), LIMIT)
        assert job == await store.jobs.get("a")
        assert job == Job(
            id="a", request=request(), state=JobState.PENDING, total_steps=20, created_at=clock(), attempts=0
        )

    async def test_repeated_returns_the_job_as_it_is_now(self, store):
        await processing(store)
        again = await submit(store, "a", request(prompt="another"), LIMIT)
        assert again == await store.jobs.get("a")
        assert (again.state, again.request.prompt) == (JobState.PROCESSING, "a red circle")

    async def test_full_queue_counts_pending_jobs_of_all_models(self, store):
        await submitted(store, "a", model_id="tiny")
        await submitted(store, "b", model_id="huge")
        with pytest.raises(QueueFullError) as error:
            await submit(store, "c", request(), QueueLimits(total=2))
        assert error.value.retry_after_seconds > 0
        assert (await submit(store, "a", request(), QueueLimits(total=2))).id == "a"  # a repeat is no new job
        await claimed(store, "1")
        assert (await submit(store, "c", request(), QueueLimits(total=2))).state is JobState.PENDING

    async def test_unknown_ids(self, store):
        for ask in (store.jobs.get, store.jobs.position, store.jobs.cancel):
            with pytest.raises(UnknownJobError):
                await ask("nobody")
        assert await store.images.of_jobs(["nobody"]) == []


class TestClaim:
    async def test_starts_the_job(self, store, clock):
        await submitted(store, "a")
        submitted_at = clock()
        clock.advance(seconds=5)
        (claim,) = await claimed(store, "1")
        assert claim == Claim(job_id="a", request=request(), fence=1, created_at=submitted_at)
        job = await store.jobs.get("a")
        assert (job.state, job.attempts, job.started_at) == (JobState.PROCESSING, 1, clock())

    async def test_takes_no_more_than_the_capacity_of_each_model(self, store):
        await submitted(store, "a", "b", "c", model_id="tiny")
        await submitted(store, "d", "e", model_id="huge")
        await submitted(store, "f", model_id="cold")
        claims = await store.claims.claim({"tiny": 2, "huge": 5, "cold": 0, "unheard of": 1}, "replica", "1", LEASE)
        assert sorted(claim.job_id for claim in claims) == ["a", "b", "d", "e"]

    async def test_repeated_returns_the_same_claims(self, store):
        await submitted(store, "a", "b", "c")
        first = await claimed(store, "1", 2)
        assert await claimed(store, "1", 2) == first
        assert await state(store, "c") is JobState.PENDING

    async def test_repeated_returns_only_what_is_still_current(self, store):
        await submitted(store, "a", "b", "c", "d")
        await claimed(store, "1", 3)
        await complete(store, "a", 1, [])
        await store.attempts.fail("b", 1, "gone.", 3)
        assert [claim.job_id for claim in await claimed(store, "1", 3)] == ["c"]
        await complete(store, "c", 1, [])
        assert await claimed(store, "1", 3) == []
        assert await state(store, "d") is JobState.PENDING

    async def test_repeated_renews_the_lease(self, store, clock):
        await submitted(store, "a")
        await claimed(store, "1")
        clock.advance(seconds=50)
        await claimed(store, "1")
        clock.advance(seconds=50)
        assert await store.attempts.reap(3) == []

    async def test_each_attempt_has_a_higher_fence(self, store):
        await submitted(store, "a")
        for fence in (1, 2, 3):
            (claim,) = await claimed(store, f"claim {fence}")
            assert claim.fence == fence
            await store.attempts.fail("a", fence, "gone.", 10)

    async def test_oldest_first_of_one_client(self, store):
        await submitted(store, "a", "b", "c")
        assert [(await claimed(store, str(n)))[0].job_id for n in range(3)] == ["a", "b", "c"]

    async def test_one_client_cannot_starve_another(self, store):
        await submitted(store, "a1", "a2", "a3", "a4", client="ann")
        await submitted(store, "b1", "b2", client="bob")
        await submitted(store, "c1", client="cat")
        assert [(await claimed(store, str(n)))[0].job_id for n in range(7)] == [
            "a1", "b1", "c1", "a2", "b2", "a3", "a4",
        ]  # fmt: skip

    async def test_turns_go_on_after_claims_of_many(self, store):
        await submitted(store, "a1", "a2", "a3", "a4", client="ann")
        await submitted(store, "b1", "b2", "b3", client="bob")
        assert [claim.job_id for claim in await claimed(store, "1", 3)] == ["a1", "b1", "a2"]
        assert [claim.job_id for claim in await claimed(store, "2", 3)] == ["b2", "a3", "b3"]

    async def test_turns_at_one_model_do_not_count_at_another(self, store):
        await submitted(store, "a1", client="ann", model_id="huge")
        await claimed(store, "1", model_id="huge")
        await submitted(store, "a2", client="ann")
        await submitted(store, "b1", client="bob")
        assert [claim.job_id for claim in await claimed(store, "2")] == ["a2"]

    async def test_queue_position_is_the_order_of_claims(self, store):
        await submitted(store, "a1", "a2", client="ann")
        await submitted(store, "b1", client="bob")
        await submitted(store, "other", client="cat", model_id="huge")
        positions = {job_id: await store.jobs.position(job_id) for job_id in ("a1", "b1", "a2", "other")}
        assert positions == {"a1": 1, "b1": 2, "a2": 3, "other": 1}
        await claimed(store, "1")
        assert [await store.jobs.position(job_id) for job_id in ("a1", "b1", "a2")] == [None, 1, 2]

    async def test_queue_position_passes_over_what_has_left(self, store):
        await submitted(store, "a1", "a2", "a3", "a4", "a5", client="ann")
        await submitted(store, "b1", "b2", "b3", "b4", client="bob")
        await submitted(store, "c1", client="cat")
        (claim,) = await claimed(store, "1")
        await store.jobs.cancel("a3")
        await store.jobs.cancel("b2")
        await store.attempts.fail(claim.job_id, claim.fence, "gone.", 3)
        waiting = ["a1", "a2", "a4", "a5", "b1", "b3", "b4", "c1"]
        positions = {await store.jobs.position(job_id): job_id for job_id in waiting}
        in_order = [(await claimed(store, f"claim {n}"))[0].job_id for n in range(len(waiting))]
        assert [positions[n + 1] for n in range(len(waiting))] == in_order
        assert in_order == ["b1", "c1", "a1", "b3", "a2", "b4", "a4", "a5"]

    async def test_many_are_claimed_in_the_order_of_single_claims(self, store):
        for model_id in ("tiny", "huge"):
            for client, count in (("ann", 4), ("bob", 1), ("cat", 3)):
                jobs = (f"{model_id} {client}{number}" for number in range(count))
                await submitted(store, *jobs, client=client, model_id=model_id)
        singly = [(await claimed(store, str(n)))[0].job_id.split()[1] for n in range(8)]
        at_once = [claim.job_id.split()[1] for claim in await claimed(store, "all", 8, model_id="huge")]
        assert at_once == singly

    async def test_a_job_that_was_put_back_keeps_its_age(self, store):
        fence = await processing(store, "a")
        await submitted(store, "b")
        await store.attempts.fail("a", fence, "gone.", 3)
        assert await store.jobs.position("a") == 1


class TestReport:
    async def test_notes_progress_and_renews_the_lease(self, store, clock):
        fence = await processing(store)
        for step in (4, 8):
            clock.advance(seconds=50)
            assert await reported(store, [report("a", fence, step)], LEASE) == set()
        assert await store.attempts.reap(3) == []
        job = await store.jobs.get("a")
        assert (job.phase, job.step) == (JobPhase.GENERATING, 8)

    async def test_steps_never_go_back_within_an_attempt(self, store):
        fence = await processing(store)
        await reported(store, [report("a", fence, 8)], LEASE)
        await reported(store, [report("a", fence, 5, JobPhase.SAVING)], LEASE)
        job = await store.jobs.get("a")
        assert (job.phase, job.step) == (JobPhase.SAVING, 8)
        await store.attempts.fail("a", fence, "gone.", 3)
        assert ((await store.jobs.get("a")).step, (await store.jobs.get("a")).phase) == (0, None)

    async def test_names_the_jobs_to_stop(self, store, clock):
        fences = {job_id: await processing(store, job_id) for job_id in ("running", "stale", "done", "unwanted")}
        await store.attempts.fail("stale", fences["stale"], "gone.", 3)
        await claimed(store, "again")
        await complete(store, "done", fences["done"], [])
        await store.jobs.cancel("unwanted")
        reports = [report(job_id, fence, 3) for job_id, fence in fences.items()] + [report("nobody", 1)]
        assert await reported(store, reports, LEASE) == {"stale", "done", "unwanted", "nobody"}
        assert [(await store.jobs.get(job_id)).step for job_id in ("running", "stale")] == [3, 0]

    async def test_each_of_many_reporters_is_told_of_its_own_attempt(self, store):
        stale = await processing(store)
        await store.attempts.fail("a", stale, "gone.", 3)
        (current,) = await claimed(store, "again")
        of_each = [[report("a", stale, 7)], [report("a", current.fence, 3)], [report("a", current.fence, 2)], []]
        assert await store.claims.report(of_each, LEASE) == [{"a"}, set(), set(), set()]
        assert (await store.jobs.get("a")).step == 3

    async def test_does_not_renew_what_must_stop(self, store, clock):
        fence = await processing(store)
        await store.jobs.cancel("a")
        clock.advance(seconds=50)
        await reported(store, [report("a", fence)], LEASE)
        clock.advance(seconds=10)
        assert await store.attempts.reap(3) == ["a"]
        assert await state(store) is JobState.CANCELLED


class TestAtOnce:
    async def test_submits_and_claims_of_one_store(self, store):
        await self.submit_and_claim([store])

    async def test_submits_and_claims_of_several_stores(self, store, database_url, clock):
        others = [await JobStore.open(database_url, clock) for _ in range(3)]
        try:
            await self.submit_and_claim([store, *others])
        finally:
            for other in others:
                await other.close()

    async def submit_and_claim(self, stores: list[JobStore]) -> None:
        await submitted(stores[0], *(str(number) for number in range(10)))
        calls = []
        for number in range(10, 20):
            store = stores[number % len(stores)]
            calls.append(submitted(store, str(number), client=f"client {number % 3}"))
            calls.append(claimed(store, f"claim {number}"))
        await asyncio.gather(*calls)
        store = stores[0]
        rest = await claimed(store, "the rest", 20)
        counts = await store.counts.by_state()
        assert (counts.pending, counts.processing) == (0, 20)
        assert {(await store.jobs.get(str(number))).attempts for number in range(20)} == {1}
        assert len(rest) < 20

    async def test_claims_of_several_stores_are_fair(self, store, database_url, clock):
        for client in ("ann", "bob", "cat"):
            await submitted(store, *(f"{client}{number}" for number in range(10)), client=client)
        stores = [store, *[await JobStore.open(database_url, clock) for _ in range(2)]]
        try:
            taken = Counter()
            for turn in range(4):
                claims = await asyncio.gather(*(claimed(each, f"{turn} of {n}") for n, each in enumerate(stores)))
                taken.update(claim.request.client for made in claims for claim in made)
        finally:
            for other in stores[1:]:
                await other.close()
        assert taken.total() == 12
        assert max(taken.values()) - min(taken.values()) <= len(stores)

    async def test_submits_of_one_job_by_several_stores_make_one(self, store, database_url, clock):
        other = await JobStore.open(database_url, clock)
        try:
            made = await asyncio.gather(*(submit(each, "a", request(), LIMIT) for each in [store, other] * 5))
        finally:
            await other.close()
        assert {job.id for job in made} == {"a"}
        assert (await store.counts.by_state()).total == 1
        assert [claim.job_id for claim in await claimed(store, "all", 10)] == ["a"]

    async def test_many_kinds_of_calls_leave_right_counts(self, store, database_url, clock):
        other = await JobStore.open(database_url, clock)
        stores = [store, other]

        async def live(number: int) -> None:
            job_id, mine = str(number), stores[number % 2]
            await submitted(mine, job_id, client=f"client {number % 4}", model_id=("tiny", "huge")[number % 2])
            if number % 3 == 0:
                await mine.jobs.cancel(job_id)
            for claim in await mine.claims.claim({"huge": 2, "tiny": 2}, "replica", f"claim {number}", LEASE):
                match int(claim.job_id) % 4:
                    case 0:
                        await mine.attempts.fail(claim.job_id, claim.fence, "gone.", 3)
                    case 1:
                        await mine.attempts.fail(claim.job_id, claim.fence, "Bad input.", max_attempts=None)
                    case 2:
                        await complete(mine, claim.job_id, claim.fence, [])
            await reported(mine, [report(str(each), 1) for each in range(24)], LEASE)

        try:
            await asyncio.gather(*(live(number) for number in range(24)))
        finally:
            await other.close()
        states = Counter([(await store.jobs.get(str(number))).state for number in range(24)])
        counts = await store.counts.by_state()
        assert {state: getattr(counts, state) for state in JobState} == {state: states[state] for state in JobState}
        waiting = [n for n in range(24) if await state(store, str(n)) is JobState.PENDING]
        rest = await store.claims.claim({"huge": 50, "tiny": 50}, "replica", "the rest", LEASE)
        assert sorted(int(claim.job_id) for claim in rest) == waiting
