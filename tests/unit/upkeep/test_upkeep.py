"""Storage and records are kept in step, and nothing goes that somebody may still want."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from deployments.jobs.records.jobs import JobState
from deployments.settings.upkeep import UpkeepSettings
from deployments.storage.base import StoredObject
from deployments.storage.image_names import image_id, image_key
from deployments.upkeep.sweep import Sweep, Upkeep, damaged_files
from tests.support.api_service import api_service

STRANGER = "00000000-0000-4000-8000-000000000000"
ORPHAN = f"2030/01/01/{STRANGER}.png"
SETTINGS = UpkeepSettings()


@pytest.fixture
async def service(tmp_path):
    async with api_service(tmp_path) as service:
        yield service


def tomorrow() -> datetime:
    return datetime.now(UTC) + timedelta(hours=25)


def sweep(service, now=tomorrow) -> Sweep:
    return Sweep(service.tracker.upkeep, service.storage, SETTINGS, now)


async def keys(service) -> list[str]:
    return [each.key async for page in service.storage.pages() for each in page]


async def test_files_without_a_record_go_with_their_thumbnails(service):
    image, _ = await service.make_image()
    kept = await keys(service)
    for key in (ORPHAN, ORPHAN.replace(".png", ".256.webp")):
        await service.storage.write(key, b"12345")
    outcome = await sweep(service).run()
    assert (outcome.files, outcome.orphans, outcome.orphan_bytes) == (5, 2, 10)
    assert await keys(service) == kept
    assert image.key in kept


async def test_a_young_file_stays_as_its_record_may_be_under_way(service):
    await service.storage.write(ORPHAN, b"12345")
    outcome = await sweep(service, lambda: datetime.now(UTC) + timedelta(hours=23)).run()
    assert (outcome.files, outcome.orphans) == (1, 0)


async def test_the_images_of_a_job_that_runs_stay_however_old(service):
    job_id = await service.submit(settings={"num_images": 2})
    await service.start()
    key = image_key(image_id(job_id, 1), datetime.now(UTC).date(), "png")
    await service.storage.write(key, b"12345")
    assert (await sweep(service).run()).orphans == 0


async def test_the_images_of_a_job_that_waits_for_another_attempt_stay(service):
    job_id = await service.submit()
    claim = await service.start()
    await service.storage.write(image_key(image_id(job_id, 0), datetime.now(UTC).date(), "png"), b"12345")
    await service.tracker.release(job_id, claim.fence, "gone.")
    assert (await service.job(job_id)).state is JobState.PENDING
    assert (await sweep(service).run()).orphans == 0


async def test_an_input_that_nothing_names_goes_in_one_sweep_and_its_file_with_it(service):
    _, content = await service.make_image()
    headers = {"Content-Type": "image/png"}
    sent = (await service.http.post("/api/inputs", content=content, headers=headers)).json()["id"]
    picture = await service.tracker.inputs.find(sent)
    assert (await sweep(service).run()).orphans == 0
    old = Sweep(Aged(service.tracker.upkeep), service.storage, SETTINGS, tomorrow)
    outcome = await old.run()
    assert (outcome.inputs, outcome.orphans) == (1, 1)
    assert not await service.storage.exists(picture.key)


class Aged:
    """Records to which every input is a day older than it is."""

    def __init__(self, records) -> None:
        self._records = records

    def __getattr__(self, name):
        return getattr(self._records, name)

    async def forget_unused_inputs(self, older_than, limit):
        return await self._records.forget_unused_inputs(older_than - timedelta(days=1, seconds=1), limit)


async def test_images_without_a_file_are_named(service):
    images = [(await service.make_image())[0] for _ in range(2)]
    await service.storage.delete(images[0].key)
    outcome = await sweep(service).run()
    assert (outcome.missing, outcome.missing_ids) == (1, [images[0].id])


async def test_what_unfinished_writes_left_goes(service):
    await service.make_image()
    unfinished = service.images_dir / ".unfinished" / "x"
    unfinished.write_bytes(b"1")
    assert (await sweep(service).run()).unfinished == 0
    os.utime(unfinished, (0, 0))
    assert (await sweep(service).run()).unfinished == 1


async def test_damage_is_told(service):
    images, png = [], b""
    for _ in range(3):
        image, png = await service.make_image()
        images.append(image)
    sent = await service.http.post("/api/inputs", content=png, headers={"Content-Type": "image/png"})
    source = await service.tracker.inputs.picture(sent.json()["id"])
    await service.storage.write(source.key, b"another picture too")
    await service.storage.write(images[0].key, b"another picture")
    await service.storage.delete(images[1].key)
    looked_at: list[int] = []
    problems = [each async for each in damaged_files(service.tracker.upkeep, service.storage, looked_at.append)]
    assert [problem.partition(": ")[0] for problem in problems] == [images[0].id, images[1].id, source.id]
    assert "damaged" in problems[0]
    assert "not there" in problems[1]
    assert "damaged" in problems[2]
    assert looked_at == [3, 1]


async def test_only_one_of_several_replicas_sweeps(service):
    day = timedelta(days=1)
    replicas = [Upkeep(service.tracker.upkeep, service.storage, SETTINGS) for _ in range(3)]
    found = [await replica.sweep_if_due(day) for replica in replicas]
    assert [outcome is not None for outcome in found] == [True, False, False]


async def test_it_runs_by_itself(service):
    class Listed:
        """A storage that is asked for its files."""

        is_asked = False

        async def sweep_unfinished(self, older_than):
            return 0

        async def pages(self, after=""):
            self.is_asked = True
            yield []

    listed = Listed()
    upkeep = Upkeep(service.tracker.upkeep, listed, SETTINGS)
    upkeep.start()
    while not listed.is_asked:
        await service.tracker.counts.by_state()
    await upkeep.close()


async def test_over_http_a_piece_at_a_time(service, monkeypatch):
    class Paged:
        """Two pages of files that are not there, both too young to go."""

        async def pages(self, after=""):
            for key in (ORPHAN, ORPHAN.replace("2030", "2031")):
                if key > after:
                    yield [StoredObject(key, 3, datetime.now(UTC))]

    monkeypatch.setattr(type(service.storage), "pages", Paged.pages)
    first = (await service.http.post("/api/storage/sweep")).json()
    second = (await service.http.post("/api/storage/sweep", params={"after": first["next_after"]})).json()
    third = (await service.http.post("/api/storage/sweep", params={"after": second["next_after"]})).json()
    assert [each["files"] for each in (first, second, third)] == [1, 1, 0]
    assert third["next_after"] is None
