"""Lists, retries, paused models, clearing, retention, and the record of who did what."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deployments.jobs.images.gallery import GalleryFilter
from deployments.jobs.queue.administration import RetentionLimits
from deployments.jobs.queue.jobs import JobFilter
from deployments.jobs.records.exceptions import InvalidCursorError, JobStateError, UnknownJobError
from deployments.jobs.records.jobs import JobState, PriorityClass
from deployments.jobs.store import JobStore
from deployments.jobs.transaction.backoff import Backoff
from tests.support.job_samples import LIMIT, claimed, complete, image, processing, request, state, submit, submitted

SOME = 10


async def completed(store, *job_ids: str, clock=None) -> None:
    for job_id in job_ids:
        fence = await processing(store, job_id)
        await complete(store, job_id, fence, [image(job_id)])
        if clock is not None:
            clock.advance(seconds=60)


async def ids(store, limit: int = 50, cursor: str | None = None, **wanted) -> list[str]:
    return [job.id for job in (await store.jobs.page(JobFilter(**wanted), limit, cursor)).jobs]


async def actions(store) -> list[tuple]:
    page = await store.audit.page()
    return [(entry.who, entry.action.value, entry.job_id, entry.model_id, entry.details) for entry in page.entries]


class TestList:
    async def test_is_newest_first_and_can_be_filtered(self, store, clock):
        await submitted(store, "a", model_id="tiny", client="ann")
        clock.advance(seconds=1)
        await submitted(store, "b", model_id="huge", client="bob")
        clock.advance(seconds=1)
        await submitted(store, "c", model_id="tiny", client="bob")
        await claimed(store, "1")
        assert await ids(store) == ["c", "b", "a"]
        assert await ids(store, state=JobState.PENDING) == ["c", "b"]
        assert await ids(store, model_id="tiny") == ["c", "a"]
        assert await ids(store, client="bob", model_id="huge") == ["b"]
        assert await ids(store, created_after=clock() - timedelta(seconds=2)) == ["c", "b"]
        assert await ids(store, created_before=clock() - timedelta(seconds=1)) == ["a"]
        assert await ids(store, client="nobody") == []

    async def test_pages_have_each_job_once_whatever_is_submitted_meanwhile(self, store, clock):
        for number in range(7):
            await submitted(store, str(number))
            if number % 2:
                clock.advance(seconds=1)
        seen, cursor = [], None
        for number in range(3):
            page = await store.jobs.page(JobFilter(), 3, cursor)
            seen += [job.id for job in page.jobs]
            cursor = page.next_cursor
            await submitted(store, f"new {number}")
        assert seen == ["6", "5", "4", "3", "2", "1", "0"]
        assert cursor is None

    @pytest.mark.parametrize("cursor", ["", "x", "nonsense", "MS8yMDMw", "a" * 500, "MS8yMDMwLTAxLTAxVDAwOjAwOjAw"])
    async def test_what_is_no_cursor_is_refused(self, store, cursor):
        with pytest.raises(InvalidCursorError):
            await store.jobs.page(JobFilter(), 3, cursor)
        with pytest.raises(InvalidCursorError):
            await store.audit.page(3, cursor)


class TestRetry:
    @pytest.mark.parametrize("end", [JobState.FAILED, JobState.CANCELLED])
    async def test_makes_a_new_job_that_names_the_old_one(self, store, end):
        wanted = request().model_copy(update={"priority": PriorityClass.LOW, "expires_in": 60, "batch_size": 3})
        await submit(store, "a", wanted, LIMIT)
        if end is JobState.CANCELLED:
            await store.jobs.cancel("a")
        else:
            await claimed(store, "1")
            await store.attempts.fail("a", 1, "Bad input.", max_attempts=None)
        before = await store.jobs.get("a")
        for _ in range(2):
            job = await store.queue.retry("a", "b", LIMIT, "eve")
            assert (job.id, job.retry_of, job.state, job.attempts) == ("b", "a", JobState.PENDING, 0)
        assert job.request == wanted.model_copy(update={"batch_size": None})
        assert await store.jobs.get("a") == before
        assert (await store.counts.by_state()).total == 2
        assert ("eve", "retry", "a", "tiny", {"new_job_id": "b"}) in await actions(store)

    async def test_only_of_what_failed_or_was_cancelled(self, store):
        fence = await processing(store)
        with pytest.raises(JobStateError, match="The job is processing; only a failed or cancelled job"):
            await store.queue.retry("a", "b", LIMIT, "eve")
        await complete(store, "a", fence, [])
        with pytest.raises(JobStateError):
            await store.queue.retry("a", "b", LIMIT, "eve")
        with pytest.raises(UnknownJobError):
            await store.queue.retry("nobody", "b", LIMIT, "eve")


class TestPausedModel:
    async def test_its_jobs_keep_waiting_and_others_go_on(self, store):
        await submitted(store, "t", model_id="tiny")
        await submitted(store, "h", model_id="huge")
        for _ in range(2):
            await store.administration.pause("tiny", "eve")
        assert await store.administration.paused_models() == ["tiny"]
        await submitted(store, "t2", model_id="tiny")
        claims = await store.claims.claim({"tiny": 5, "huge": 5}, "replica", "1", timedelta(seconds=60))
        assert [claim.job_id for claim in claims] == ["h"]
        assert [await store.jobs.position(job_id) for job_id in ("t", "t2")] == [1, 2]
        for _ in range(2):
            await store.administration.resume("tiny", "bob")
        assert [claim.job_id for claim in await claimed(store, "2", 5)] == ["t", "t2"]
        assert [action[:4] for action in await actions(store)] == [
            ("bob", "resume", None, "tiny"),
            ("eve", "pause", None, "tiny"),
        ]

    async def test_is_paused_after_a_restart_and_its_running_jobs_end(self, store, database_url, clock):
        fence = await processing(store)
        await store.administration.pause("tiny", "eve")
        other = await JobStore.open(database_url, clock)
        assert await other.administration.paused_models() == ["tiny"]
        assert await complete(other, "a", fence, [])
        await other.close()


class TestReset:
    async def test_puts_stalled_jobs_back_at_once(self, database_url, clock):
        store = await JobStore.open(database_url, clock, Backoff(60, 60, jitter=lambda: 1.0))
        await processing(store, "stalled")
        clock.advance(seconds=40)
        await processing(store, "alive")
        clock.advance(seconds=30)
        assert await store.administration.reset(3, "eve") == ["stalled"]
        assert [claim.job_id for claim in await claimed(store, "again")] == ["stalled"]
        assert await state(store, "alive") is JobState.PROCESSING
        assert await actions(store) == [("eve", "reset", None, None, {"jobs": 1})]
        await store.close()


class TestClear:
    async def test_pending_jobs_are_cancelled_a_piece_at_a_time(self, store):
        await submitted(store, "a", "b", "c", "d")
        assert len(await claimed(store, "1")) == 1
        assert [await store.administration.cancel_pending(2, "eve") for _ in range(3)] == [2, 1, 0]
        assert {await state(store, job_id) for job_id in ("b", "c")} == {JobState.CANCELLED}
        assert (await store.jobs.get("c")).message == "Cancelled while it waited: the queue was cleared."
        assert (await store.counts.by_state()).processing == 1
        assert await claimed(store, "2") == []

    async def test_ended_jobs_are_forgotten_with_their_images(self, store):
        await completed(store, "a", "b")
        await submitted(store, "c")
        found = await store.administration.removable(JobState.COMPLETED, SOME)
        assert [(job.job_id, job.keys) for job in found] == [
            ("a", ["2030/01/01/a-0.png"]), ("b", ["2030/01/01/b-0.png"]),
        ]  # fmt: skip
        assert [await store.administration.remove(["a", "c", "nobody"], "eve") for _ in range(2)] == [1, 0]
        with pytest.raises(UnknownJobError):
            await store.jobs.get("a")
        assert (await store.gallery.page(GalleryFilter())).total == 1
        counts = await store.counts.by_state()
        assert (counts.completed, counts.pending, counts.total) == (1, 1, 2)
        assert await actions(store) == [("eve", "clear", None, None, {"state": "completed", "jobs": 1})]


class TestRetention:
    async def due(self, store, **limits) -> list[str]:
        found = await store.administration.removable_by(RetentionLimits(**limits), SOME)
        return [job.job_id for job in found]

    async def test_nothing_goes_without_a_limit(self, store):
        await completed(store, "a")
        assert await self.due(store) == []

    async def test_by_age_since_the_end(self, store, clock):
        await submitted(store, "waits")
        await store.administration.pause("tiny", "eve")
        await store.administration.resume("tiny", "eve")
        await store.jobs.cancel("waits")
        await completed(store, "a", "b", clock=clock)
        assert await self.due(store, age=timedelta(seconds=119)) == ["waits", "a"]
        assert await self.due(store, age=timedelta(hours=1)) == []

    async def test_by_count_the_first_to_end_goes_first(self, store, clock):
        await completed(store, "a", "b", "c", clock=clock)
        await submitted(store, "waits")
        assert await self.due(store, jobs=1) == ["a", "b"]
        assert await self.due(store, jobs=3) == []

    async def test_by_bytes_of_images_of_three_bytes_each(self, store, clock):
        await completed(store, "a", "b", "c", clock=clock)
        assert await self.due(store, image_bytes=5) == ["a", "b"]
        assert await self.due(store, image_bytes=6) == ["a"]
        assert await self.due(store, image_bytes=9) == []

    async def test_a_piece_is_bounded(self, store, clock):
        await completed(store, *(str(number) for number in range(SOME + 2)), clock=clock)
        assert len(await self.due(store, jobs=0)) == SOME


class TestAudit:
    async def test_each_action_is_noted_once_with_what_it_changed(self, store):
        await completed(store, "a")
        await submitted(store, "b", "c")
        for _ in range(2):
            await store.jobs.cancel("b", "ann")
        await store.jobs.reprioritize("c", PriorityClass.HIGH, "eve")
        await store.images.delete("a-0", "eve")
        await claimed(store, "1")
        for _ in range(2):
            await store.jobs.cancel("c", "ann")
        assert await actions(store) == [
            ("ann", "cancel", "c", "tiny", {}),
            ("eve", "delete_image", "a", "tiny", {"image_id": "a-0"}),
            ("eve", "reprioritize", "c", "tiny", {"before": "normal", "after": "high"}),
            ("ann", "cancel", "b", "tiny", {}),
        ]

    async def test_pages_are_newest_first(self, store):
        for model_id in ("a", "b", "c"):
            await store.administration.pause(model_id, "eve")
        first = await store.audit.page(2)
        rest = await store.audit.page(2, first.next_cursor)
        assert [entry.model_id for entry in (*first.entries, *rest.entries)] == ["c", "b", "a"]
        assert rest.next_cursor is None
