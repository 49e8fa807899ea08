"""A storage that fails for a while costs no image."""

import pytest

from deployments.storage import patience
from deployments.storage.base import InvalidKeyError, StorageError, StorageFullError
from deployments.storage.patience import patient

KEY = "2030/01/02/6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3d.png"


class FailingStorage:
    """Raises one failure for each write, then keeps what it is given."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.kept: dict[str, bytes] = {}

    async def write(self, key: str, content: bytes) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.kept[key] = content


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 0.0)


async def test_a_write_is_repeated_while_the_storage_fails():
    storage = FailingStorage(StorageError(), StorageFullError(), StorageError())
    await patient(storage, 60).write(KEY, b"picture")
    assert storage.kept == {KEY: b"picture"}


async def test_when_patience_ends_the_last_failure_is_told():
    storage = FailingStorage(StorageFullError("Could not write: the disk is full."), StorageError())
    with pytest.raises(StorageFullError, match="the disk is full"):
        await patient(storage, 0).write(KEY, b"picture")
    assert len(storage.failures) == 1


@pytest.mark.parametrize("failure", [InvalidKeyError(), ValueError("a defect")])
async def test_what_would_fail_again_is_told_at_once(failure):
    storage = FailingStorage(failure, StorageError())
    with pytest.raises(type(failure)):
        await patient(storage, 60).write(KEY, b"picture")
    assert len(storage.failures) == 1


async def test_all_else_is_the_storage_itself():
    storage = FailingStorage()
    assert patient(storage, 60).kept is storage.kept
