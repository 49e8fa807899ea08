"""How images are found, marked, related and counted, on both kinds of databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from deployments.jobs.images.gallery import MOST_TAGS, GalleryFilter
from deployments.jobs.records.exceptions import (
    InvalidCursorError,
    QuotaError,
    TooManyTagsError,
    UnknownImageError,
)
from deployments.jobs.records.jobs import NewInput
from tests.support.job_samples import LIMIT, claimed, complete, image, request, submit, submitted

EVERYTHING = GalleryFilter()


async def made(store, job_id, *, images=1, client="ann", model_id="tiny", prompt="a red circle", **settings) -> None:
    """Bring a job to its end, with images."""
    asked = request(client=client, model_id=model_id, prompt=prompt)
    asked = asked.model_copy(update={"settings": asked.settings.model_copy(update=settings)})
    await submit(store, job_id, asked, LIMIT)
    (claim,) = await claimed(store, job_id, model_id=model_id)
    assert await complete(store, job_id, claim.fence, [image(job_id, index) for index in range(images)])


async def ids(store, **wanted) -> list[str]:
    page = await store.gallery.page(GalleryFilter(**wanted))
    assert page.total == len(page.images)
    return [found.id for found in page.images]


class TestFilters:
    @pytest.fixture(autouse=True)
    async def images(self, store, clock):
        await made(store, "a", client="ann", model_id="tiny", width=64, height=64)
        clock.advance(hours=1)
        await made(store, "b", client="bob", model_id="tiny", width=64, height=128)
        clock.advance(hours=1)
        await made(store, "c", client="bob", model_id="huge", width=128, height=64)

    async def test_each(self, store, clock):
        hour = timedelta(hours=1)
        assert await ids(store) == ["c-0", "b-0", "a-0"]
        assert await ids(store, model_id="tiny") == ["b-0", "a-0"]
        assert await ids(store, client="bob") == ["c-0", "b-0"]
        assert await ids(store, client="bob", model_id="tiny") == ["b-0"]
        assert await ids(store, created_after=clock() - 2 * hour) == ["c-0", "b-0"]
        assert await ids(store, created_before=clock()) == ["b-0", "a-0"]
        assert await ids(store, size=(64, 128)) == ["b-0"]
        assert await ids(store, size=(64, 64), client="bob") == []

    async def test_marks(self, store):
        await store.gallery.mark_favourite("b-0", favourite=True)
        assert await store.gallery.tag("b-0", "best") == ["best"]
        assert await store.gallery.tag("b-0", "a") == ["a", "best"]
        assert await store.gallery.tag("c-0", "best") == ["best"]
        assert await ids(store, favourite=True) == ["b-0"]
        assert await ids(store, favourite=False) == ["c-0", "a-0"]
        assert await ids(store, tags=("best",)) == ["c-0", "b-0"]
        assert await ids(store, tags=("best", "a")) == ["b-0"]
        assert await ids(store, tags=("best",), search="circle", client="bob", model_id="huge") == ["c-0"]
        (shown,) = (await store.gallery.page(GalleryFilter(favourite=True))).images
        assert (shown.favourite, shown.tags, shown.prompt) == (True, ("a", "best"), "a red circle")
        assert (shown.width, shown.height, shown.client) == (64, 128, "bob")
        assert [(each.tag, each.images) for each in await store.gallery.list_tags()] == [("a", 1), ("best", 2)]
        assert [each.tag for each in await store.gallery.list_tags("ann")] == []
        assert await store.gallery.untag("b-0", "best") == ["a"]
        await store.gallery.mark_favourite("b-0", favourite=False)
        assert await ids(store, favourite=True) == []

    async def test_search_with_filters(self, store):
        assert await ids(store, search="red", client="ann") == ["a-0"]
        assert await ids(store, search="circle huge") == ["c-0"]
        assert await ids(store, search="square") == []

    async def test_marks_of_what_is_not_there(self, store):
        for ask in (
            store.gallery.mark_favourite("x", favourite=True),
            store.gallery.tag("x", "a"),
            store.gallery.untag("x", "a"),
            store.lineages.of("x"),
        ):
            with pytest.raises(UnknownImageError):
                await ask

    async def test_an_image_has_only_so_many_tags(self, store):
        for number in range(MOST_TAGS):
            await store.gallery.tag("a-0", f"{number:02}")
        with pytest.raises(TooManyTagsError, match="50 tags"):
            await store.gallery.tag("a-0", "one more")
        assert len(await store.gallery.tag("a-0", "00")) == MOST_TAGS


@pytest.mark.parametrize(
    ("search", "is_found"),
    [
        ("cir", True),
        ("ircle", False),
        ("circle r", True),
        ("red-circle", False),
        ("high-con", True),
        ("contrast-high", False),
        ("円を", True),
        ("を円", False),
        ('" OR red', False),
        ("'); --", False),
        ("red & !circle", False),
        ("x" * 500, True),
        ("x" * 501, False),
    ],
)
async def test_words_and_their_beginnings_are_found(store, search, is_found):
    await made(store, "a", prompt=f"A Red circle, high-contrast, 赤い円を描く {'x' * 500}")
    assert await ids(store, search=search) == (["a-0"] if is_found else [])


async def test_an_image_that_is_gone_is_not_found(store):
    await made(store, "a", images=2)
    await made(store, "b")
    await store.gallery.tag("a-0", "best")
    await store.images.delete("a-0")
    assert await store.images.delete_many(["a-1", "x"], "ann") == ["a-1"]
    assert await ids(store, search="red") == ["b-0"]
    assert await store.gallery.list_tags() == []
    await store.administration.remove(["a", "b"], "ann")
    assert await ids(store, search="red") == []
    actions = [(each.action, each.who) for each in (await store.audit.page()).entries]
    assert ("delete_images", "ann") in actions


class TestPages:
    async def test_a_cursor_goes_on_where_the_page_ended_whatever_came_meanwhile(self, store):
        for job_id in "abc":
            await made(store, job_id)
        first = await store.gallery.page(EVERYTHING, limit=2)
        await made(store, "d")
        second = await store.gallery.page(EVERYTHING, limit=2, cursor=first.next_cursor)
        assert [found.id for page in (first, second) for found in page.images] == ["c-0", "b-0", "a-0"]
        assert (first.next_cursor is None, second.next_cursor) == (False, None)
        searched = await store.gallery.page(GalleryFilter(search="red"), limit=2, cursor=first.next_cursor)
        assert [found.id for found in searched.images] == ["a-0"]

    async def test_a_cursor_of_somebody_elses_making_is_refused(self, store):
        with pytest.raises(InvalidCursorError, match="images"):
            await store.gallery.page(EVERYTHING, cursor="x")

    async def test_only_so_many_are_counted(self, store, monkeypatch):
        monkeypatch.setattr("deployments.jobs.images.gallery.MOST_COUNTED", 2)
        for job_id in "abc":
            await made(store, job_id)
        assert (await store.gallery.page(GalleryFilter(search="red"))).total == 2
        assert (await store.gallery.page(GalleryFilter(model_id="tiny"))).total == 3

    async def test_pages_go_on_beyond_what_is_counted(self, store, monkeypatch):
        monkeypatch.setattr("deployments.jobs.images.gallery.MOST_COUNTED", 2)
        for job_id in "abcd":
            await made(store, job_id)
        red = GalleryFilter(search="red")
        first = await store.gallery.page(red, limit=1)
        second = await store.gallery.page(red, limit=2, cursor=first.next_cursor)
        third = await store.gallery.page(red, page=3, limit=2, cursor=second.next_cursor)
        pages = [[found.id for found in each.images] for each in (first, second, third)]
        assert pages == [["d-0"], ["c-0", "b-0"], ["a-0"]]
        assert [found.id for found in (await store.gallery.page(red, page=2, limit=2)).images] == ["b-0", "a-0"]


class TestLineage:
    async def sent(self, store, input_id, client="ann"):
        key = f"2030/01/01/{input_id}.png"
        await store.inputs.add(
            NewInput(id=input_id, key=key, sha256="0" * 64, width=64, height=64, byte_count=3, client=client)
        )

    async def test_both_sides_to_the_end(self, store):
        await self.sent(store, "in")
        await made(store, "a", image="in")
        await made(store, "b", images=2, image="a-0", mask="gone")
        await made(store, "c", control_image="b-1")
        found = await store.lineages.of("b-1")
        assert [(each.id, each.kind, each.role, each.of, each.generation) for each in found.ancestors] == [
            ("a-0", "image", "image", "b-1", 1),
            ("gone", "deleted", "mask", "b-1", 1),
            ("in", "input", "image", "a-0", 2),
        ]
        assert [(each.id, each.role, each.of) for each in found.descendants] == [("c-0", "control_image", "b-1")]
        assert [each.id for each in (await store.lineages.of("a-0")).descendants] == ["b-0", "b-1", "c-0"]

    async def test_what_is_anothers_is_left_out(self, store):
        await made(store, "a", client="ann")
        await made(store, "b", client="bob", image="a-0")
        assert (await store.lineages.of("a-0", "ann")).descendants == []
        assert (await store.lineages.of("b-0", "bob")).ancestors == []
        assert len((await store.lineages.of("a-0")).descendants) == 1

    async def test_an_input_goes_when_no_job_names_it_and_it_is_old(self, store, clock):
        day = timedelta(days=1)
        for input_id in ("used", "unused", "sent again"):
            await self.sent(store, input_id)
        await made(store, "a", image="used")
        assert await store.upkeep.forget_unused_inputs(day, 100) == 0
        clock.advance(hours=25)
        await self.sent(store, "sent again")
        assert await store.upkeep.forget_unused_inputs(day, 100) == 1
        assert [await store.inputs.find(each) is not None for each in ("used", "unused", "sent again")] == [
            True, False, True
        ]  # fmt: skip
        await store.administration.remove(["a"], "ann")
        assert await store.upkeep.forget_unused_inputs(day, 100) == 1


class TestHoldings:
    async def test_they_follow_the_images(self, store):
        await made(store, "a", images=2)
        await made(store, "b", client="bob", model_id="huge")
        assert [tuple(each.model_dump().values()) for each in await store.holdings.of()] == [
            ("ann", "tiny", 2, 6), ("bob", "huge", 1, 3)
        ]  # fmt: skip
        await store.images.delete("a-0")
        await store.images.delete_many(["b-0"], "bob")
        assert [each.bytes for each in await store.holdings.of()] == [3]
        await store.administration.remove(["a"], "ann")
        assert await store.holdings.of("ann") == []

    async def test_a_quota_of_images(self, store):
        limits = replace(LIMIT, owner_images=3)
        await made(store, "a", images=2)
        with pytest.raises(QuotaError, match="You may keep 3 images, and there is room for 1 more of them"):
            await submit(store, "b", request(num_images=2), limits)
        await submit(store, "b", request(num_images=1), limits)
        await submit(store, "c", request(num_images=3, client="bob"), limits)
        await store.images.delete_many(["a-0"], "ann")
        await submit(store, "d", request(num_images=2), limits)

    async def test_a_quota_of_bytes(self, store):
        limits = replace(LIMIT, owner_bytes=3)
        await submit(store, "first", request(), limits)
        await store.jobs.cancel("first")
        await made(store, "a")
        with pytest.raises(QuotaError, match="3 bytes"):
            await submit(store, "b", request(), limits)
        assert (await submit(store, "a", request(), limits)).id == "a"


class TestChores:
    async def test_one_of_those_who_ask_begins_it(self, store, clock):
        hour = timedelta(hours=1)
        assert [await store.upkeep.begin_chore("sweep", hour) for _ in range(3)] == [True, False, False]
        clock.advance(minutes=59)
        assert not await store.upkeep.begin_chore("sweep", hour)
        assert await store.upkeep.begin_chore("other", hour)
        clock.advance(minutes=1)
        assert await store.upkeep.begin_chore("sweep", hour)

    async def test_what_the_sweep_asks(self, store):
        await made(store, "a", images=2)
        await submitted(store, "runs")
        await claimed(store, "runs")
        assert await store.upkeep.known_ids(["a-0", "x"]) == {"a-0"}
        assert [(job.job_id, job.num_images) for job in await store.upkeep.begun_jobs()] == [("runs", 2)]
        batch = await store.upkeep.files_after("image", 0, 1)
        rest = await store.upkeep.files_after("image", batch.last, 10)
        assert [found.id for each in (batch, rest) for found in each.files] == ["a-0", "a-1"]
        assert (await store.upkeep.files_after("image", rest.last, 10)).files == []
