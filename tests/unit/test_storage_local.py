import asyncio
import errno
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from deployments.storage.base import InvalidKeyError, MissingObjectError, Storage, StorageError, StorageFullError
from deployments.storage.local import LocalStorage

KEY = "2031/02/03/0c7d4c2e-9a9c-5b0e-8f4f-0123456789ab.png"


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


async def test_what_is_written_is_read(storage: Storage, root: Path) -> None:
    assert not await storage.exists(KEY)
    await storage.write(KEY, b"picture")

    assert await storage.read(KEY) == b"picture"
    assert await storage.size(KEY) == 7
    assert await storage.exists(KEY)
    assert files_under(root) == [KEY]


async def test_writing_again_replaces(storage: LocalStorage, root: Path) -> None:
    await storage.write(KEY, b"first")
    await storage.write(KEY, b"second, longer")

    assert await storage.read(KEY) == b"second, longer"
    assert files_under(root) == [KEY]


async def test_writers_of_one_key_do_not_mix(storage: LocalStorage, root: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    await asyncio.gather(*(storage.write(KEY, content) for content in contents))

    assert await storage.read(KEY) in contents
    assert files_under(root) == [KEY]


async def test_delete_is_idempotent(storage: LocalStorage) -> None:
    await storage.write(KEY, b"picture")
    await storage.delete(KEY)
    await storage.delete(KEY)

    assert not await storage.exists(KEY)


async def test_missing_object(storage: LocalStorage, root: Path) -> None:
    for question in (storage.read, storage.size):
        with pytest.raises(MissingObjectError, match=f"There is no image file {KEY}") as caught:
            await question(KEY)
        assert caught.value.status == 404
        assert str(root) not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "../../../../etc/passwd",
        "/etc/passwd",
        "2031/02/03/../../../../x.png",
        "2031/02/03/..................................../x.png",
        "2031/02/03/" + "." * 36 + ".png",
        KEY + "\n",
        KEY + "/x.png",
        KEY.replace("a", "A"),
        KEY.replace("2031", "\u0662\u0660\u0663\u0661"),
        KEY.replace(".png", ".PNG"),
        KEY.replace(".png", ""),
        "./" + KEY,
        "2031\\02\\03\\" + KEY[11:],
        KEY[:20] + "\0" + KEY[21:],
    ],
)
async def test_no_key_leads_out_of_the_folder(storage: LocalStorage, root: Path, key: str) -> None:
    for call in (
        storage.write(key, b""),
        storage.read(key),
        storage.size(key),
        storage.exists(key),
        storage.delete(key),
    ):
        with pytest.raises(InvalidKeyError) as caught:
            await call
        assert caught.value.status == 400
    assert files_under(root) == []


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


def test_default_messages() -> None:
    assert str(StorageError()) == "The image store failed."
    assert StorageError.status == 503
    assert issubclass(MissingObjectError, StorageError)
