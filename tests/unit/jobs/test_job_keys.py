"""API keys in the job store, and the limits that they put on submits."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from deployments.jobs.images.gallery import GalleryFilter
from deployments.jobs.records.api_keys import KeyLimits, NewKey, Scope, hash_of, key_id_of, make_key
from deployments.jobs.records.exceptions import ClientQueueFullError, DailyLimitError, UnknownKeyError
from deployments.jobs.records.jobs import JobState
from deployments.jobs.store import JobStore
from tests.support.job_samples import LIMIT, claimed, complete, image, processing, request, submit, submitted

NEW = NewKey(name="ann", scopes=(Scope.READ,), limits=KeyLimits(queued_jobs=3, models=("tiny",)))


async def added(store, new: NewKey = NEW) -> str:
    """Keep a new key; gives the whole key."""
    key_id, key = make_key()
    await store.keys.add(key_id, hash_of(key), new, "root")
    return key


async def check(store, key: str):
    return await store.keys.check(key_id_of(key), hash_of(key))


def limits(**of_key):
    return dataclasses.replace(LIMIT, key=KeyLimits(**of_key))


class TestKeys:
    async def test_are_found_by_their_secret_only(self, store):
        key = await added(store)
        found = await check(store, key)

        assert (found.name, found.scopes, found.limits) == (NEW.name, NEW.scopes, NEW.limits)
        assert await store.keys.check(key_id_of(key), hash_of(key + "0")) is None
        assert await store.keys.check("0" * 12, hash_of(key)) is None

    async def test_are_not_kept_themselves(self, store, database_url, databases):
        key = await added(store)

        rows = databases.execute(database_url, "SELECT * FROM api_keys")
        assert key_id_of(key) in rows
        assert key.rpartition("_")[2] not in rows

    async def test_added_twice_are_one(self, store):
        for name in ("ann", "bob"):
            kept = await store.keys.add("0123456789ab", "0" * 64, NewKey(name=name), "root")
            assert kept.name == "ann"
        assert [key.name for key in await store.keys.list()] == ["ann"]

    async def test_revoked_are_good_for_nothing_and_stay_in_the_list(self, store, clock):
        key, other = await added(store), await added(store)
        revoked_at = clock()
        await store.keys.revoke(key_id_of(key), "root")
        clock.advance(hours=1)
        again = await store.keys.revoke(key_id_of(key), "root")

        assert again.revoked_at == revoked_at
        assert await check(store, key) is None
        assert await check(store, other) is not None
        assert [found.revoked_at for found in await store.keys.list()] == [revoked_at, None]

    async def test_that_are_not_there_cannot_be_revoked(self, store):
        with pytest.raises(UnknownKeyError, match="There is no API key 0123456789ab"):
            await store.keys.revoke("0123456789ab", "root")

    async def test_their_use_is_noted_now_and_then(self, store, clock):
        key, noted = await added(store), []
        for minutes in (0, 9, 1):
            clock.advance(minutes=minutes)
            await check(store, key)
            noted.append((await store.keys.list())[0].last_used_at)

        assert noted == [clock() - timedelta(minutes=10), clock() - timedelta(minutes=10), clock()]

    async def test_a_wrong_secret_is_no_use(self, store):
        key = await added(store)
        await store.keys.check(key_id_of(key), "0" * 64)

        assert (await store.keys.list())[0].last_used_at is None

    async def test_who_made_and_revoked_them_is_recorded(self, store):
        key_id = key_id_of(await added(store))
        await store.keys.revoke(key_id, "boss")

        entries = (await store.audit.page()).entries
        assert [(entry.who, entry.action, entry.details) for entry in entries] == [
            ("boss", "revoke_key", {"key_id": key_id, "name": "ann"}),
            ("root", "create_key", {"key_id": key_id, "name": "ann"}),
        ]

    @pytest.mark.parametrize("key", ["", "ci_", "ci_0123456789ab_", "ci_0123456789AB_" + "0" * 64, "sk-123", "ci_é_0"])
    def test_other_texts_are_none(self, key):
        assert key_id_of(key) is None

    def test_all_differ_and_have_256_random_bits(self):
        made = {make_key()[1] for _ in range(100)}

        assert len(made) == 100
        assert {len(key.split("_")[2]) * 4 for key in made} == {256}

    @pytest.mark.parametrize("name", ["", " ann", "a/b", "a" * 65, "ann\n", "-a"])
    def test_need_a_plain_name(self, name):
        with pytest.raises(ValueError, match="name"):
            NewKey(name=name)


async def test_a_secret_is_the_same_for_all_who_use_the_database(store, database_url):
    other = await JobStore.open(database_url)
    try:
        secret = await store.keys.secret("links")
        assert await other.keys.secret("links") == secret
        assert await other.keys.secret("other") != secret
        assert len(secret) == 64
    finally:
        await other.close()


class TestLimitsOfAKey:
    async def test_jobs_that_wait(self, store):
        await submit(store, "a", request(), limits(queued_jobs=2))
        await submit(store, "b", request(), limits(queued_jobs=2))
        with pytest.raises(ClientQueueFullError, match="2 may wait"):
            await submit(store, "c", request(), limits(queued_jobs=2))
        await claimed(store, "1")
        await submit(store, "c", request(), limits(queued_jobs=2))

    async def test_take_the_place_of_everybodys(self, store):
        everybodys = dataclasses.replace(LIMIT, per_client=1)
        await submit(store, "a", request(), everybodys)
        with pytest.raises(ClientQueueFullError):
            await submit(store, "b", request(), everybodys)
        await submit(store, "b", request(), dataclasses.replace(everybodys, key=KeyLimits(queued_jobs=2)))

    async def test_jobs_that_wait_or_run(self, store):
        fence = await processing(store, "a")
        await submit(store, "b", request(), limits(concurrent_jobs=2))
        with pytest.raises(ClientQueueFullError, match="2 may wait or run at once"):
            await submit(store, "c", request(), limits(concurrent_jobs=2))
        await submitted(store, "of somebody else", client="bob")
        assert await complete(store, "a", fence, [image("a")])
        await submit(store, "c", request(), limits(concurrent_jobs=2))

    async def test_images_of_a_day(self, store, clock):
        clock.advance(hours=20)
        for job_id in ("a", "b"):
            await submit(store, job_id, request(num_images=2), limits(images_per_day=5))
        with pytest.raises(DailyLimitError, match=r"5 images a day \(UTC\), and 1 are left") as refusal:
            await submit(store, "c", request(num_images=2), limits(images_per_day=5))
        assert refusal.value.retry_after_seconds == 4 * 3600 + 1
        await submit(store, "c", request(num_images=1), limits(images_per_day=5))
        await submit(store, "of somebody else", request(num_images=5, client="bob"), limits(images_per_day=5))
        clock.advance(seconds=refusal.value.retry_after_seconds)
        await submit(store, "d", request(num_images=5), limits(images_per_day=5))

    async def test_a_refused_submit_spends_nothing_and_a_repeated_one_once(self, store):
        for _ in range(3):
            await submit(store, "a", request(num_images=2), limits(images_per_day=3))
            with pytest.raises(DailyLimitError, match="1 are left"):
                await submit(store, "b", request(num_images=2), limits(images_per_day=3))
        assert (await store.counts.by_state()).total == 1

    async def test_of_a_batch_count_all_of_it_or_nothing(self, store):
        wanted = {job_id: request(num_images=2) for job_id in ("a", "b")}
        with pytest.raises(DailyLimitError):
            await store.queue.submit(wanted, limits(images_per_day=3))
        with pytest.raises(ClientQueueFullError):
            await store.queue.submit(wanted, limits(concurrent_jobs=1))
        await store.queue.submit(wanted, limits(images_per_day=4, concurrent_jobs=2, queued_jobs=2))
        assert (await store.jobs.get("b")).state is JobState.PENDING

    async def test_a_retry_counts_too(self, store):
        await submit(store, "a", request(num_images=2), limits(images_per_day=3))
        await store.jobs.cancel("a")
        with pytest.raises(DailyLimitError):
            await store.queue.retry("a", "b", limits(images_per_day=3), "ann")


async def test_images_can_be_listed_by_their_owner(store):
    for client in ("ann", "bob"):
        await submitted(store, client, client=client)
        (claim,) = await claimed(store, f"claim of {client}")
        assert await complete(store, client, claim.fence, [image(client)])

    page = await store.gallery.page(GalleryFilter(client="ann"))
    assert ([found.id for found in page.images], page.total) == (["ann-0"], 1)
    assert (await store.gallery.page(GalleryFilter())).total == 2
