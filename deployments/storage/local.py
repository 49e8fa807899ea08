"""Image bytes in a folder of the local disk, or of a file system that all machines share."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from uuid import uuid4

from deployments.storage.base import (
    MissingObjectError,
    Storage,
    StorageError,
    StorageFullError,
    StoredObject,
    check_key,
    is_key,
)

_PAGE = 1000
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REASONS = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EEXIST: "a file is in the place of a folder",
    errno.ENOTDIR: "a file is in the place of a folder",
}


class LocalStorage(Storage):
    """A ``Storage`` of files.

    A write goes to a file of its own under ``.unfinished``, down to the disk, and then to its place in one rename: a
    reader, and a machine that loses power, sees all of the old content or all of the new.

    Args:
        root: The folder; it is created by the first write. All of it is on one file system.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._unfinished = root / ".unfinished"

    async def pages(self, after: str = "") -> AsyncIterator[list[StoredObject]]:
        """Iterate over all objects; see ``Storage``."""
        objects = self._objects(after)
        while page := await self._run(lambda: list(islice(objects, _PAGE))):
            yield page

    async def public_url(self, key: str) -> str | None:
        """Return None: only this service serves the files."""
        check_key(key)
        return None

    async def sweep_unfinished(self, older_than: timedelta) -> int:
        """Remove the files of unfinished writes; see ``Storage``."""
        return await self._run(self._sweep_unfinished, time.time() - older_than.total_seconds())

    def _check(self) -> None:
        probe = self._root / f".write-check-{uuid4()}"
        with _explained(f"keep images in {self._root}"):
            self._root.mkdir(parents=True, exist_ok=True)
            try:
                _write_to_disk(probe, b"0" * 4096)  # permissions and free space alone do not tell whether that works
            finally:
                probe.unlink(missing_ok=True)

    def _write(self, key: str, content: bytes) -> None:
        target = self._root / key
        unfinished = self._unfinished / str(uuid4())
        with _explained(f"write {key}"):
            try:
                self._unfinished.mkdir(parents=True, exist_ok=True)
                _write_to_disk(unfinished, content)
                self._make_folder(target.parent)
                unfinished.replace(target)
                _sync_folder(target.parent)
            finally:
                with suppress(OSError):  # after the rename there is none; else the first error is the one to tell
                    unfinished.unlink()

    def _make_folder(self, folder: Path) -> None:
        """Create the folder of a day, and flush the name of each new folder to the disk."""
        if folder == self._root or folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)

    def _read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        with _explained(f"read {key}"), _missing_told(key), (self._root / key).open("rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)

    def _size(self, key: str) -> int:
        with _explained(f"read {key}"), _missing_told(key):
            return (self._root / key).stat().st_size

    def _delete(self, key: str) -> None:
        with _explained(f"delete {key}"):
            (self._root / key).unlink(missing_ok=True)

    def _objects(self, after: str) -> Iterator[StoredObject]:
        with _explained("list the images"):
            for key in _keys_under(self._root, "", after):
                with suppress(FileNotFoundError):  # it was deleted meanwhile
                    status = (self._root / key).stat()
                    yield StoredObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def _sweep_unfinished(self, before: float) -> int:
        swept = 0
        with _explained("sweep unfinished files"):
            for path in self._unfinished.glob("*"):
                with suppress(FileNotFoundError):  # its writer, or another sweeper, was faster
                    if path.stat().st_mtime < before:
                        path.unlink()
                        swept += 1
        return swept


def _keys_under(root: Path, folder: str, after: str) -> Iterator[str]:
    """The keys below a folder, in order: names of one level's folders are of one length, so the keys are in theirs."""
    try:
        names = sorted(path.name for path in (root / folder).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        path = folder + name
        if is_key(path):
            if path > after:
                yield path
        elif name.isdigit() and path >= after[: len(path)]:
            yield from _keys_under(root, f"{path}/", after)


def _write_to_disk(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, which syncing the files themselves does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _missing_told(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise MissingObjectError(f"There is no image file {key}.") from None


@contextmanager
def _explained(action: str) -> Iterator[None]:
    """Turn errors of the operating system into sentences. They name no folder of the server: clients may see them."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(f"Could not {action}: the disk is full.") from error
        reason = _REASONS.get(error.errno or 0) or error.strerror or "the disk failed"
        raise StorageError(f"Could not {action}: {reason}.") from error
