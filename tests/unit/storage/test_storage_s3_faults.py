"""What a bad network and a bad server do to images in a bucket: nothing is lost, and nothing is half there."""

import asyncio
from collections.abc import Iterator

import pytest
from botocore.retries.standard import ExponentialBackoff

from deployments.storage import s3 as module
from deployments.storage.base import StorageError, StorageFullError
from deployments.storage.s3 import S3Storage
from tests.support.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from tests.support.s3_server import S3Server
from tests.support.storage_samples import KEY, PREFIX, bucket_at, key_of

ATTEMPTS = 3
CONTENT = bytes(range(256)) * 1000
REPEATABLE = [Fault.BUSY, Fault.DROPPED, Fault.STALLED]


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.create_bucket()


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3.url) as proxy:
        yield proxy


@pytest.fixture
def storage(proxy: FaultyProxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    """A storage behind the proxy that repeats what failed without pauses, and waits for little."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.0)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(module, "_ATTEMPTS", ATTEMPTS)
    monkeypatch.setattr(module, "_READ_SECONDS", 0.5)
    monkeypatch.setattr(module, "_CONNECTIONS", 4)
    return bucket_at(proxy.url, bucket)


@pytest.mark.parametrize("fault", REPEATABLE)
async def test_a_write_is_repeated(
    storage: S3Storage, proxy: FaultyProxy, s3: S3Server, bucket: str, fault: Fault
) -> None:
    proxy.faults.extend([fault] * (ATTEMPTS - 1))

    await storage.write(KEY, CONTENT)

    assert proxy.seen == ["PUT"] * ATTEMPTS
    assert s3.s3.get_object(Bucket=bucket, Key=PREFIX + KEY)["Body"].read() == CONTENT


@pytest.mark.parametrize("fault", [*REPEATABLE, Fault.CUT])
async def test_a_read_is_repeated(storage: S3Storage, proxy: FaultyProxy, fault: Fault) -> None:
    await storage.write(KEY, CONTENT)
    proxy.faults.extend([fault] * (ATTEMPTS - 1))

    assert await storage.read(KEY) == CONTENT


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.BUSY, "the server is overloaded or down; try again later"),
        (Fault.DROPPED, "the connection broke off"),
        (Fault.STALLED, "the server does not answer in time"),
        (Fault.CUT, "the connection broke off"),
    ],
)
async def test_a_read_that_fails_again_and_again(
    storage: S3Storage, proxy: FaultyProxy, fault: Fault, reason: str
) -> None:
    await storage.write(KEY, CONTENT)
    proxy.faults.extend([fault] * 20)

    with pytest.raises(StorageError) as caught:
        await storage.read(KEY)

    assert str(caught.value) == f"Could not read {KEY}: {reason}."
    assert caught.value.status == 503
    proxy.faults.clear()
    assert await storage.read(KEY) == CONTENT


@pytest.mark.parametrize("fault", REPEATABLE)
async def test_a_write_that_fails_leaves_the_old_content(storage: S3Storage, proxy: FaultyProxy, fault: Fault) -> None:
    await storage.write(KEY, b"old")
    proxy.faults.extend([fault] * ATTEMPTS)

    with pytest.raises(StorageError, match=f"Could not write {KEY}: "):
        await storage.write(KEY, CONTENT)

    assert await storage.read(KEY) == b"old"


async def test_a_full_server(storage: S3Storage, proxy: FaultyProxy) -> None:
    proxy.faults.extend([Fault.FULL] * ATTEMPTS)

    with pytest.raises(StorageFullError) as caught:
        await storage.write(KEY, CONTENT)
    assert str(caught.value) == f"Could not write {KEY}: the bucket is full."
    assert caught.value.status == 507


async def test_clocks_that_differ(storage: S3Storage, proxy: FaultyProxy) -> None:
    proxy.faults.extend([Fault.SKEWED] * ATTEMPTS)

    with pytest.raises(StorageError, match="the clock of this machine differs too much from the server's"):
        await storage.check()


@pytest.mark.parametrize("fault", REPEATABLE)
async def test_listing_and_deleting_are_repeated(storage: S3Storage, proxy: FaultyProxy, fault: Fault) -> None:
    await storage.write(KEY, CONTENT)

    proxy.faults.append(fault)
    assert [[found.key for found in page] async for page in storage.pages()] == [[KEY]]
    proxy.faults.append(fault)
    assert await storage.exists(KEY)
    proxy.faults.append(fault)
    await storage.delete(KEY)
    assert not await storage.exists(KEY)


async def test_nothing_is_lost_or_half_there_in_a_storm(
    storage: S3Storage, proxy: FaultyProxy, s3: S3Server, bucket: str
) -> None:
    proxy.faults.extend([Fault.BUSY, Fault.DROPPED, Fault.CUT, Fault.DROPPED, Fault.BUSY] * 12)
    contents = {key_of(number): bytes([number]) * 50_000 for number in range(24)}

    async def write(key: str, content: bytes) -> bool:
        try:
            await storage.write(key, content)
        except StorageError:
            return False
        return True

    written = dict(zip(contents, await asyncio.gather(*map(write, *zip(*contents.items(), strict=True))), strict=True))

    proxy.faults.clear()
    found = {each["Key"].removeprefix(PREFIX) for each in s3.s3.list_objects_v2(Bucket=bucket).get("Contents", [])}
    assert {key for key, kept in written.items() if kept} <= found
    for key in found:
        assert await storage.read(key) == contents[key]
