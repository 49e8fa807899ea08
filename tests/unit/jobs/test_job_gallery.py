"""What is told of jobs: their images, the gallery and the counts."""

from __future__ import annotations

import pytest

from deployments.jobs.images.gallery import GalleryFilter
from deployments.jobs.records.exceptions import UnknownImageError
from deployments.jobs.records.jobs import JobState
from deployments.jobs.store import JobStore
from tests.support.job_samples import claimed, complete, image, processing, state, submitted


class TestImages:
    async def test_get_and_delete(self, store):
        fence = await processing(store)
        await complete(store, "a", fence, [image("a")])
        found = await store.images.get("a-0")
        assert found.key == "2030/01/01/a-0.png"
        assert await store.images.delete("a-0") == found
        for ask in (store.images.get, store.images.delete):
            with pytest.raises(UnknownImageError):
                await ask("a-0")
        assert await state(store) is JobState.COMPLETED

    async def make(self, store: JobStore, **prompts: str) -> None:
        for job_id, prompt in prompts.items():
            await submitted(store, job_id, prompt=prompt, model_id="tiny-v1")
            (claim,) = await claimed(store, job_id, model_id="tiny-v1")
            await complete(store, job_id, claim.fence, [image(job_id)])

    async def test_pages_are_newest_first_and_do_not_overlap(self, store):
        await self.make(store, a="one", b="two", c="three")
        pages = [await store.gallery.page(GalleryFilter(), page, limit=2) for page in (1, 2, 3)]
        assert [[found.id for found in page.images] for page in pages] == [["c-0", "b-0"], ["a-0"], []]
        assert {page.total for page in pages} == {3}

    @pytest.mark.parametrize(
        ("search", "expected"),
        [
            ("", {"a", "b", "c", "d"}),
            ("RED", {"a", "b"}),
            ("circle red", {"a"}),
            ("tiny-V1 square", {"b"}),
            ("äpfel", {"c"}),
            ("%", {"d"}),
            ("100%_", {"d"}),
            ("_", {"d"}),
            ("/", set()),
            ("\\", set()),
        ],
    )
    async def test_every_word_must_match_literally(self, store, search, expected):
        await self.make(store, a="a red circle", b="A Red square", c="drei ÄPFEL", d="100%_blue")
        page = await store.gallery.page(GalleryFilter(search=search))
        assert {found.job_id for found in page.images} == expected
        assert page.total == len(expected)

    async def test_of_one_model(self, store):
        await self.make(store, a="one")
        assert (await store.gallery.page(GalleryFilter(model_id="tiny-v1"))).total == 1
        assert (await store.gallery.page(GalleryFilter(model_id="tiny"))).total == 0


class TestCounts:
    async def test_of_an_empty_store(self, store):
        counts = await store.counts.in_detail()
        assert (counts.total, counts.models, counts.recent_24h) == (0, {}, 0)
        assert (counts.avg_processing_time_seconds, counts.failure_rate, counts.images_per_minute) == (0.0, 0.0, {})

    async def test_by_state_and_model(self, store, clock):
        fence = await processing(store, "done")
        clock.advance(seconds=2.5)
        await complete(store, "done", fence, [])
        fence = await processing(store, "slow")
        clock.advance(seconds=5.5)
        await complete(store, "slow", fence, [])
        clock.advance(hours=24)
        fence = await processing(store, "broken")
        await store.attempts.fail("broken", fence, "Bad input.", max_attempts=None)
        await submitted(store, "waiting", "unwanted", model_id="huge")
        await store.jobs.cancel("unwanted")
        await processing(store, "running")
        counts = await store.counts.by_state()
        assert counts.model_dump() == {
            "pending": 1, "processing": 1, "completed": 2, "failed": 1, "cancelled": 1,
            "models": {
                "huge": {"pending": 1, "processing": 0, "completed": 0, "failed": 0, "cancelled": 1},
                "tiny": {"pending": 0, "processing": 1, "completed": 2, "failed": 1, "cancelled": 0},
            },
        }  # fmt: skip
        detailed = await store.counts.in_detail()
        assert (detailed.total, detailed.recent_24h) == (6, 4)
        assert detailed.avg_processing_time_seconds == 4.0
        assert detailed.failure_rate == pytest.approx(1 / 3)

    async def test_images_of_the_last_ten_minutes_make_the_rate(self, store, clock):
        for job_id in ("a", "b", "c"):
            fence = await processing(store, job_id)
            await complete(store, job_id, fence, [image(job_id)])
            clock.advance(minutes=4)
        await store.images.delete("c-0")
        assert (await store.counts.in_detail()).images_per_minute == {"tiny": pytest.approx(1 / 10)}
