"""Jobs that are kept no longer go with their images, whatever stops the removal halfway."""

from __future__ import annotations

import pytest

from deployments.jobs.records.jobs import JobState
from deployments.settings.service import RetentionSettings
from deployments.storage.base import StorageError
from deployments.upkeep.retention import JOBS_AT_ONCE, Retention, clear_jobs
from tests.support.api_service import api_service


@pytest.fixture
async def service(tmp_path):
    async with api_service(tmp_path) as service:
        yield service


def retention(service, storage=None, **settings) -> Retention:
    return Retention(service.tracker, storage or service.storage, RetentionSettings(**settings))


class FailingStorage:
    """A storage that fails to delete the second object that it is asked to."""

    def __init__(self, storage) -> None:
        self._storage = storage
        self._images: set[str] = set()

    async def delete(self, key: str) -> None:
        self._images.add(key.rpartition("/")[2].split(".")[0])
        if len(self._images) > 1:
            raise StorageError("The disk is gone.")
        await self._storage.delete(key)


async def test_nothing_goes_by_default(service):
    image, _ = await service.make_image()
    assert await retention(service).forget_some() == 0
    assert await service.storage.exists(image.key)


async def test_the_oldest_jobs_go_with_their_files(service):
    images = [(await service.make_image())[0] for _ in range(3)]
    assert [await retention(service, max_jobs=1).forget_some() for _ in range(2)] == [2, 0]
    assert [await service.storage.exists(image.key) for image in images] == [False, False, True]
    assert (await service.tracker.counts.by_state()).total == 1
    (entry,) = (await service.tracker.audit.page()).entries
    assert (entry.who, entry.details) == ("retention", {"state": "completed", "jobs": 2})


async def test_by_bytes_of_images(service):
    images = [(await service.make_image())[0] for _ in range(3)]
    most = images[1].byte_count + images[2].byte_count
    assert await retention(service, max_image_bytes=most).forget_some() == 1
    assert [await service.storage.exists(image.key) for image in images] == [False, True, True]


async def test_a_record_stays_until_its_bytes_are_gone(service):
    for _ in range(2):
        await service.make_image()
    broken = FailingStorage(service.storage)
    with pytest.raises(StorageError):
        await retention(service, broken, max_jobs=0).forget_some()
    assert (await service.tracker.counts.by_state()).completed == 2
    assert await retention(service, max_jobs=0).forget_some() == 2
    assert (await service.tracker.counts.by_state()).total == 0


async def test_it_runs_by_itself_in_pieces_until_nothing_is_left(service, monkeypatch):
    monkeypatch.setattr("deployments.upkeep.retention.JOBS_AT_ONCE", 1)
    for _ in range(3):
        await service.make_image()
    runs = retention(service, max_jobs=0, interval_seconds=1000)
    runs.start()
    changes = await service.tracker.changes(None, 0)
    while (await service.tracker.counts.by_state()).total:
        changes = await service.tracker.changes(changes.cursor, 0.01)
    await runs.close()


async def test_clearing_stops_after_so_many_jobs(service, monkeypatch):
    for _ in range(3):
        await service.submit()
    monkeypatch.setattr("deployments.upkeep.retention.JOBS_AT_ONCE", 1)
    cleared = await clear_jobs(service.tracker, service.storage, JobState.PENDING, 2, "eve")
    assert (cleared, (await service.tracker.counts.by_state()).pending) == (2, 1)
    assert JOBS_AT_ONCE == 100
