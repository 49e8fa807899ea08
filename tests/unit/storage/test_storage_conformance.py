"""What every storage does alike: files, and objects of real S3 servers over HTTP."""

import asyncio
import os
from pathlib import Path

import pytest

from deployments.storage.base import InvalidKeyError, MissingObjectError, Storage, StoredObject
from deployments.storage.local import LocalStorage
from tests.conftest import use_credentials
from tests.support.s3_server import OtherServer, S3Server
from tests.support.storage_samples import KEY, bucket_at, key_of

OTHER_URL = os.environ.get("CYBERIMAGE_TEST_S3_URL")


@pytest.fixture(params=["local", "s3", *(["other s3"] if OTHER_URL else [])])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty storage of each kind in turn."""
    if request.param == "local":
        return LocalStorage(tmp_path / "images")
    if request.param == "s3":
        server: S3Server | OtherServer = request.getfixturevalue("s3")
    else:
        server = OtherServer(str(OTHER_URL))
        use_credentials(monkeypatch, server)
    return bucket_at(server.url, server.create_bucket())


async def keys_in(storage: Storage, after: str = "") -> list[str]:
    return [found.key async for page in storage.pages(after) for found in page]


async def test_what_is_written_is_read(storage: Storage) -> None:
    assert not await storage.exists(KEY)
    await storage.write(KEY, b"picture")

    assert await storage.read(KEY) == b"picture"
    assert await storage.size(KEY) == 7
    assert await storage.exists(KEY)


async def test_any_bytes_are_kept(storage: Storage) -> None:
    content = bytes(range(256)) * 8000
    await storage.write(KEY, content)

    assert await storage.read(KEY) == content


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 7), (2, 5), (6, 7)])
async def test_a_part_is_read(storage: Storage, start: int, end: int) -> None:
    await storage.write(KEY, b"picture")

    assert await storage.read_part(KEY, start, end) == b"picture"[start:end]


async def test_writing_again_replaces(storage: Storage) -> None:
    await storage.write(KEY, b"first")
    await storage.write(KEY, b"second, longer")

    assert await storage.read(KEY) == b"second, longer"
    assert await keys_in(storage) == [KEY]


async def test_writers_of_one_key_do_not_mix(storage: Storage) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    await asyncio.gather(*(storage.write(KEY, content) for content in contents))

    assert await storage.read(KEY) in contents
    assert await keys_in(storage) == [KEY]


async def test_delete_is_idempotent(storage: Storage) -> None:
    await storage.write(KEY, b"picture")
    await storage.delete(KEY)
    await storage.delete(KEY)

    assert not await storage.exists(KEY)


async def test_missing_object(storage: Storage) -> None:
    for question in (storage.read(KEY), storage.size(KEY), storage.read_part(KEY, 0, 1)):
        with pytest.raises(MissingObjectError) as caught:
            await question
        assert str(caught.value) == f"There is no image file {KEY}."
        assert caught.value.status == 404


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
        KEY.replace(".png", ".x.png"),
        KEY.replace(".png", ".0256.png"),
        KEY.replace(".png", ".256.256.png"),
        "./" + KEY,
        "2031\\02\\03\\" + KEY[11:],
        KEY[:20] + "\0" + KEY[21:],
    ],
)
async def test_no_key_leads_out_of_the_storage(storage: Storage, key: str) -> None:
    for call in (
        storage.write(key, b""),
        storage.read(key),
        storage.read_part(key, 0, 1),
        storage.size(key),
        storage.exists(key),
        storage.delete(key),
        storage.public_url(key),
    ):
        with pytest.raises(InvalidKeyError) as caught:
            await call
        assert caught.value.status == 400
    assert await keys_in(storage) == []


async def test_objects_are_listed_in_order(storage: Storage) -> None:
    days = ("2030/12/31", "2031/01/01", "2031/01/02", "2031/10/01")
    keys = [key_of(number, day) for day in days for number in (1, 2, 0x10)]
    thumbnail = keys[0].replace(".png", ".256.webp")
    for key in reversed([*keys, thumbnail]):
        await storage.write(key, b"picture" + key.encode())

    expected = sorted([*keys, thumbnail])
    assert await keys_in(storage) == expected
    for place in (0, 4, len(expected) - 1):
        assert await keys_in(storage, after=expected[place]) == expected[place + 1 :]


async def test_a_listing_tells_sizes_and_ages(storage: Storage) -> None:
    await storage.write(KEY, b"picture")

    ((found,),) = [page async for page in storage.pages()]
    assert isinstance(found, StoredObject)
    assert (found.key, found.size) == (KEY, 7)
    assert found.modified.utcoffset() is not None


async def test_an_empty_storage_lists_nothing(storage: Storage) -> None:
    assert await keys_in(storage) == []
    assert await keys_in(storage, after=KEY) == []


async def test_the_check_passes_and_leaves_nothing(storage: Storage) -> None:
    await storage.check()

    assert await keys_in(storage) == []
