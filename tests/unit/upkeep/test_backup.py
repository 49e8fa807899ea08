"""What a backup holds comes back: into either kind of database, and into an empty folder."""

from __future__ import annotations

import io
import stat
import subprocess
import tarfile

import pytest

from deployments.jobs.images.gallery import GalleryFilter
from deployments.jobs.queue.jobs import JobFilter
from deployments.jobs.records.api_keys import NewKey, Scope
from deployments.jobs.records.exceptions import StoreUnavailableError
from deployments.jobs.store import JobStore
from deployments.storage.local import LocalStorage
from deployments.upkeep.backup import BackupError, restore_backup, write_backup
from tests.support.api_service import api_service
from tests.support.job_samples import LIMIT, claimed, request, submit


async def everything(url: str) -> list:
    """What a store tells of all that a backup is for."""
    store = await JobStore.open(url)
    page = await store.gallery.page(GalleryFilter(search="red"))
    told = [
        await store.counts.by_state(),
        await store.jobs.page(JobFilter()),
        page,
        await store.holdings.of(),
        await store.gallery.list_tags(),
        await store.keys.list(),
        await store.audit.page(),
    ]
    await store.close()
    return told


@pytest.fixture
async def service(tmp_path):
    """A service with two images, one of them marked, a job that waits, an input and a key."""
    (tmp_path / "from").mkdir()
    async with api_service(tmp_path / "from") as service:
        image, content = await service.make_image(prompt="a red circle", settings={"num_images": 2})
        await service.http.put(f"/api/image/{image.id}/favourite")
        await service.http.put(f"/api/image/{image.id}/tags/best")
        await service.http.post("/api/inputs", content=content, headers={"Content-Type": "image/png"})
        await service.submit(prompt="a blue ring")
        await service.tracker.keys.add("0123", "f" * 64, NewKey(name="ann", scopes=(Scope.READ,)), "boss")
        yield service


def url_of(service) -> str:
    return service.tracker._settings.database_url


async def test_all_comes_back_into_an_empty_place(service, databases, tmp_path):
    file, target = tmp_path / "backup.tar", LocalStorage(tmp_path / "to")
    told: list[tuple[int, int]] = []
    written = await write_backup(url_of(service), service.storage, file, lambda *done: told.append(done))
    assert (written.files, written.problems, told[-1]) == (3, [], (3, 3))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    url = databases.empty()
    restored = await restore_backup(url, target, file)
    assert (restored.files, restored.rows) == (written.files, written.rows)
    assert await everything(url) == await everything(url_of(service))
    store = await JobStore.open(url)
    page = await store.gallery.page(GalleryFilter(favourite=True, tags=("best",)))
    assert page.total == 1
    for image in page.images:
        assert await target.read(image.key) == await service.storage.read(image.key)
    await submit(store, "after", request(), LIMIT)
    assert len(await claimed(store, "1", 5, "shapes")) == 1
    await store.close()


async def test_a_backup_of_a_server_comes_back_too(service, databases, tmp_path):
    """There and back: from SQLite into the other database, from that into SQLite."""
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    await write_backup(url_of(service), service.storage, first)
    url, back = databases.empty(), f"sqlite+aiosqlite:///{tmp_path}/back.db"
    await restore_backup(url, service.storage, first)
    await write_backup(url, service.storage, second)
    await restore_backup(back, LocalStorage(tmp_path / "to"), second)
    assert await everything(back) == await everything(url_of(service))


async def test_a_picture_that_is_missing_or_damaged_is_told_and_the_rest_is_kept(service, tmp_path):
    images = (await service.tracker.gallery.page(GalleryFilter())).images
    await service.storage.delete(images[0].key)
    await service.storage.write(images[1].key, b"other")
    written = await write_backup(url_of(service), service.storage, tmp_path / "backup.tar")
    assert (written.files, len(written.problems)) == (2, 2)
    assert images[0].key in written.problems[1] + written.problems[0]


class TestRefusals:
    @pytest.fixture
    async def file(self, service, tmp_path):
        path = tmp_path / "backup.tar"
        await write_backup(url_of(service), service.storage, path)
        return path

    async def test_a_file_is_not_overwritten(self, service, file):
        with pytest.raises(BackupError, match="is there already"):
            await write_backup(url_of(service), service.storage, file)

    async def test_nothing_is_restored_over_jobs(self, service, file):
        with pytest.raises(StoreUnavailableError, match="there are jobs in it"):
            await restore_backup(url_of(service), service.storage, file)

    async def test_tables_of_another_version(self, file, service, tmp_path):
        url = f"sqlite+aiosqlite:///{tmp_path}/old.db"
        with tarfile.open(file) as archive:
            members = [(member, archive.extractfile(member).read()) for member in archive]
        older = tmp_path / "older.tar"
        with tarfile.open(older, "w") as archive:
            for member, content in members:
                changed = content
                if member.name == "manifest.json":
                    changed = content.replace(b'"revision": "', b'"revision": "9')
                member.size = len(changed)
                archive.addfile(member, io.BytesIO(changed))
        with pytest.raises(StoreUnavailableError, match="newer version of CyberImage"):
            await restore_backup(url, LocalStorage(tmp_path / "to"), older)

    @pytest.mark.parametrize("content", [b"", b"no tar file at all" * 100])
    async def test_what_is_no_backup(self, tmp_path, content):
        path = tmp_path / "other.tar"
        path.write_bytes(content)
        with pytest.raises(BackupError):
            await restore_backup(f"sqlite+aiosqlite:///{tmp_path}/new.db", LocalStorage(tmp_path / "to"), path)

    @pytest.fixture
    def sparse(self, tmp_path):
        """A terabyte of zeros in a file of some kilobytes."""
        with (tmp_path / "manifest.json").open("wb") as content:
            content.truncate(2**40)
        path = tmp_path / "sparse.tar"
        subprocess.run(["tar", "--sparse", "-cf", path, "-C", tmp_path, "manifest.json"], check=True)
        assert path.stat().st_size < 2**16
        return path

    async def test_what_would_unpack_without_end(self, sparse, tmp_path):
        with pytest.raises(BackupError, match=r"manifest\.json is sparse"):
            await restore_backup(f"sqlite+aiosqlite:///{tmp_path}/new.db", LocalStorage(tmp_path / "to"), sparse)

    async def test_a_manifest_that_is_none(self, tmp_path):
        file, content = tmp_path / "backup.tar", b"[" * (2**20 + 1)
        with tarfile.open(file, "w") as archive:
            member = tarfile.TarInfo("manifest.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        with pytest.raises(BackupError, match=r"manifest\.json has 1048577 bytes"):
            await restore_backup(f"sqlite+aiosqlite:///{tmp_path}/new.db", LocalStorage(tmp_path / "to"), file)

    async def test_a_name_that_leads_elsewhere_is_not_written(self, file, tmp_path):
        with tarfile.open(file, "a") as archive:
            member = tarfile.TarInfo("files/../../evil.png")
            member.size = 1
            archive.addfile(member, io.BytesIO(b"1"))
        with pytest.raises(Exception, match="Not the key of an image file"):
            await restore_backup(f"sqlite+aiosqlite:///{tmp_path}/new.db", LocalStorage(tmp_path / "to"), file)
        assert not (tmp_path / "evil.png").exists()

    async def test_a_restore_that_broke_off_can_be_repeated(self, file, service, tmp_path):
        class Failing(LocalStorage):
            left = 1

            async def write(self, key, content):
                self.left -= 1
                if self.left < 0:
                    raise InterruptedError
                await super().write(key, content)

        url, storage = f"sqlite+aiosqlite:///{tmp_path}/new.db", Failing(tmp_path / "to")
        with pytest.raises(BackupError):
            await restore_backup(url, storage, file)
        storage.left = 1000
        await restore_backup(url, storage, file)
        assert await everything(url) == await everything(url_of(service))
