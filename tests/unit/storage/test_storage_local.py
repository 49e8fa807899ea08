import errno
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from deployments.storage import local
from deployments.storage.base import MissingObjectError, StorageError, StorageFullError
from deployments.storage.local import LocalStorage
from tests.support.storage_samples import KEY, key_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def storage(root: Path) -> LocalStorage:
    return LocalStorage(root)


def files_under(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def failing(number: int, after: int = 0) -> Callable[..., None]:
    """An os.fsync or os.open that fails from its call number `after` on."""
    calls = 0

    def fail(*_args: object, **_kwargs: object) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, StorageFullError, "the disk is full"),
        (errno.EDQUOT, StorageFullError, "the disk is full"),
        (errno.EROFS, StorageError, "the file system is read-only"),
        (errno.EACCES, StorageError, "permission denied"),
        (errno.EIO, StorageError, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("call", ["open", "fsync"])
async def test_torn_write_leaves_nothing(
    storage: LocalStorage,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    kind: type[StorageError],
    words: str,
) -> None:
    monkeypatch.setattr(os, call, failing(number))

    with pytest.raises(kind) as caught:
        await storage.write(KEY, b"picture")

    assert str(caught.value) == f"Could not write {KEY}: {words}."
    monkeypatch.undo()
    assert files_under(root) == []
    await storage.write(KEY, b"picture")
    assert await storage.read(KEY) == b"picture"


async def test_torn_write_keeps_the_old_content(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.write(KEY, b"old")
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))

    with pytest.raises(StorageFullError) as caught:
        await storage.write(KEY, b"new")

    assert caught.value.status == 507
    assert await storage.read(KEY) == b"old"
    assert files_under(root) == [KEY]


async def test_failure_after_the_rename_leaves_a_whole_object(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.write(KEY, b"old")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO, after=1))

    with pytest.raises(StorageError):
        await storage.write(KEY, b"new")

    assert await storage.read(KEY) == b"new"
    assert files_under(root) == [KEY]


async def test_content_is_on_the_disk_before_it_is_in_place(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(root)))

    monkeypatch.setattr(os, "fsync", note)
    await storage.write(KEY, b"picture")

    assert synced[0].startswith(".unfinished/")
    assert synced[1:] == [".", "2031", "2031/02", "2031/02/03"]


async def test_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    storage = LocalStorage(tmp_path / "file")

    with pytest.raises(StorageError, match=f"Could not write {KEY}"):
        await storage.write(KEY, b"picture")
    with pytest.raises(StorageError, match=f"Could not read {KEY}"):
        await storage.exists(KEY)


async def test_sweep_takes_only_what_is_old(storage: LocalStorage, root: Path) -> None:
    assert await storage.sweep_unfinished(timedelta(hours=1)) == 0
    await storage.write(KEY, b"picture")
    old, young = root / ".unfinished" / "old", root / ".unfinished" / "young"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)

    assert await storage.sweep_unfinished(timedelta(hours=1)) == 1
    assert files_under(root) == [".unfinished/young", KEY]


async def test_sweep_of_a_read_only_disk(storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await storage.write(KEY, b"picture")
    (root / ".unfinished" / "old").touch()
    monkeypatch.setattr(Path, "unlink", failing(errno.EROFS))

    with pytest.raises(StorageError, match="Could not sweep unfinished files: the file system is read-only"):
        await storage.sweep_unfinished(timedelta(seconds=-60))


async def test_only_images_are_listed(storage: LocalStorage, root: Path) -> None:
    await storage.write(KEY, b"picture")
    for name in ("notes.txt", "2031/notes.txt", "2031/02/03/notes.txt", "lost/2031/x.png", ".unfinished/half"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()

    assert [[found.key for found in page] async for page in storage.pages()] == [[KEY]]


async def test_long_listings_come_in_pages(storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_PAGE", 2)
    keys = [key_of(number) for number in range(5)]
    for key in keys:
        await storage.write(key, b"picture")

    pages = [[found.key for found in page] async for page in storage.pages()]

    assert pages == [keys[:2], keys[2:4], keys[4:]]


async def test_a_listing_survives_what_is_deleted_meanwhile(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_PAGE", 1)
    keys = [key_of(number) for number in range(3)]
    for key in keys:
        await storage.write(key, b"picture")

    found = []
    async for page in storage.pages():
        found += [each.key for each in page]
        (root / keys[1]).unlink(missing_ok=True)

    assert found == [keys[0], keys[2]]


async def test_the_check_finds_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError) as caught:
        await LocalStorage(tmp_path / "file").check()
    assert str(caught.value) == f"Could not keep images in {tmp_path}/file: a file is in the place of a folder."


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
async def test_the_check_finds_a_disk_that_takes_nothing(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))

    with pytest.raises(StorageError, match=f"Could not keep images in {root}: "):
        await storage.check()
    assert files_under(root) == []


async def test_files_have_no_address_of_their_own(storage: LocalStorage) -> None:
    assert await storage.public_url(KEY) is None


def test_default_messages() -> None:
    assert str(StorageError()) == "The image store failed."
    assert StorageError.status == 503
    assert issubclass(MissingObjectError, StorageError)
