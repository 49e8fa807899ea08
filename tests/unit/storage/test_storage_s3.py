"""A bucket as a storage: what is said of an object, where it is put, and what fails before the service starts."""

import json

import httpx
import pytest

from deployments.settings.service import Settings, SettingsError
from deployments.storage import s3 as module
from deployments.storage.base import MissingObjectError, StorageError
from deployments.storage.opening import prepare_storage
from deployments.storage.s3 import S3Storage
from tests.support.ports import free_port
from tests.support.s3_server import S3Server
from tests.support.storage_samples import KEY, PREFIX, bucket_at, key_of


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.create_bucket()


@pytest.fixture
def storage(s3: S3Server, bucket: str) -> S3Storage:
    return bucket_at(s3.url, bucket)


async def failure_of(storage: S3Storage) -> str:
    """What the check says, in one line that holds no secret."""
    with pytest.raises(StorageError) as caught:
        await storage.check()
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_an_object_says_what_it_is_and_may_be_kept(storage: S3Storage, s3: S3Server, bucket: str) -> None:
    await storage.write(KEY, b"picture")

    told = s3.s3.get_object(Bucket=bucket, Key=PREFIX + KEY)
    assert told["Body"].read() == b"picture"
    assert told["ContentType"] == "image/png"
    assert told["CacheControl"] == "public, max-age=31536000, immutable"
    assert "ServerSideEncryption" not in told


@pytest.mark.parametrize(("extension", "kind"), [("webp", "image/webp"), ("jpg", "image/jpeg"), ("avif", "image/avif")])
async def test_each_format_has_its_media_type(
    storage: S3Storage, s3: S3Server, bucket: str, extension: str, kind: str
) -> None:
    key = key_of(1, extension=extension)
    await storage.write(key, b"picture")

    assert s3.s3.head_object(Bucket=bucket, Key=PREFIX + key)["ContentType"] == kind


async def test_encryption_by_the_server_is_asked_for(s3: S3Server, bucket: str) -> None:
    await bucket_at(s3.url, bucket, encryption="aws:kms", encryption_key="our-key").write(KEY, b"picture")

    told = s3.s3.head_object(Bucket=bucket, Key=PREFIX + KEY)
    assert (told["ServerSideEncryption"], told["SSEKMSKeyId"]) == ("aws:kms", "our-key")


async def test_nothing_outside_the_prefix_is_seen(storage: S3Storage, s3: S3Server, bucket: str) -> None:
    for name in (KEY, f"other/{KEY}", f"{PREFIX}notes.txt", f"{PREFIX}2031/02/03/"):
        s3.s3.put_object(Bucket=bucket, Key=name, Body=b"")
    await storage.write(KEY, b"picture")

    assert [[found.key for found in page] async for page in storage.pages()] == [[KEY]]


async def test_long_listings_are_asked_for_in_pages(storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    keys = [key_of(number) for number in range(5)]
    for key in keys:
        await storage.write(key, b"picture")

    assert [[found.key for found in page] async for page in storage.pages()] == [keys[:2], keys[2:4], keys[4:]]
    assert [[found.key for found in page] async for page in storage.pages(keys[1])] == [keys[2:4], keys[4:]]


async def test_an_object_deleted_behind_our_back(storage: S3Storage, s3: S3Server, bucket: str) -> None:
    await storage.write(KEY, b"picture")
    s3.s3.delete_object(Bucket=bucket, Key=PREFIX + KEY)

    assert not await storage.exists(KEY)
    with pytest.raises(MissingObjectError):
        await storage.read(KEY)


async def test_a_bucket_deleted_behind_our_back_is_no_missing_image(
    storage: S3Storage, s3: S3Server, bucket: str
) -> None:
    s3.s3.delete_bucket(Bucket=bucket)

    for question in (storage.exists(KEY), storage.size(KEY), storage.read(KEY)):
        with pytest.raises(StorageError) as caught:
            await question
        assert str(caught.value) == f"Could not read {KEY}: the bucket does not exist."
        assert caught.value.status == 503


class TestPublicUrl:
    async def test_anyone_may_read_there_for_a_while(self, s3: S3Server, bucket: str) -> None:
        storage = bucket_at(s3.url, bucket, deliver="redirect", url_seconds=120)
        await storage.write(KEY, b"picture")

        url = await storage.public_url(KEY)

        async with httpx.AsyncClient() as anyone:
            assert (await anyone.get(url)).content == b"picture"
            assert (await anyone.get(url, headers={"Range": "bytes=1-2"})).content == b"ic"
        assert httpx.URL(url).params["X-Amz-Expires"] == "120"
        assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in url

    async def test_clients_may_reach_the_server_under_another_name(self, s3: S3Server, bucket: str) -> None:
        storage = bucket_at(
            s3.url, bucket, deliver="redirect", url_seconds=120, public_endpoint_url="https://pictures.example"
        )

        assert (await storage.public_url(KEY)).startswith(f"https://pictures.example/{bucket}/{PREFIX}{KEY}?")

    async def test_there_is_none_unless_it_is_asked_for(self, storage: S3Storage) -> None:
        assert await storage.public_url(KEY) is None


class TestCheck:
    async def test_a_missing_bucket(self, s3: S3Server) -> None:
        message = await failure_of(bucket_at(s3.url, "no-such-bucket"))

        assert message == f"Could not keep images in bucket no-such-bucket at {s3.url}: the bucket does not exist."

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("AWS_ACCESS_KEY_ID", "the access key is not known there"),
            ("AWS_SECRET_ACCESS_KEY", "the secret key does not belong to the access key"),
        ],
    )
    async def test_wrong_credentials(
        self, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
    ) -> None:
        monkeypatch.setenv(name, "wrongwrongwrong")
        with s3.guarded():
            message = await failure_of(bucket_at(s3.url, bucket))

        assert message == f"Could not keep images in bucket {bucket} at {s3.url}: {reason}."
        for secret in ("wrongwrongwrong", *s3.environment.values()):
            assert secret not in message

    async def test_right_credentials(self, s3: S3Server, storage: S3Storage) -> None:
        with s3.guarded():
            await storage.check()

    async def test_no_credentials(self, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in s3.environment:
            monkeypatch.delenv(name)

        assert "there are no credentials; set AWS_ACCESS_KEY_ID" in await failure_of(bucket_at(s3.url, bucket))

    def test_a_profile_that_there_is_not(self, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")

        with pytest.raises(StorageError, match="no such profile as AWS_PROFILE names"):
            bucket_at(s3.url, bucket)

    async def test_a_wrong_region(self, s3: S3Server) -> None:
        bucket = s3.create_bucket("eu-west-1")

        message = await failure_of(bucket_at(s3.url, bucket))

        assert message.endswith(": it is in the region eu-west-1, not in us-east-1.")

    async def test_no_region_at_all_is_found_out(self, s3: S3Server) -> None:
        await bucket_at(s3.url, s3.create_bucket("eu-west-1"), region=None).check()

    async def test_a_server_that_is_not_there(self, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deployments.storage.s3._ATTEMPTS", 1)
        url = f"http://127.0.0.1:{free_port()}"

        message = await failure_of(bucket_at(url, "bucket"))

        assert message == f"Could not keep images in bucket bucket at {url}: the server cannot be reached."

    async def test_a_name_that_no_bucket_has(self, s3: S3Server) -> None:
        assert "the bucket's name is not valid" in await failure_of(bucket_at(s3.url, "our images!"))

    async def test_a_bucket_that_may_only_be_read(self, s3: S3Server, storage: S3Storage, bucket: str) -> None:
        denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
        s3.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [denied]}))

        assert "access is denied to these credentials" in await failure_of(storage)

    def test_the_service_says_it_before_it_starts(self, s3: S3Server, tmp_path) -> None:
        place = {"kind": "s3", "bucket": "no-such-bucket", "endpoint_url": s3.url, "path_style": True}
        settings = Settings(data_dir=tmp_path, storage=place)

        with pytest.raises(SettingsError) as caught:
            prepare_storage(settings.storage, settings.images_dir)
        assert str(caught.value) == (
            f"storage: Could not keep images in bucket no-such-bucket at {s3.url}: the bucket does not exist."
        )
