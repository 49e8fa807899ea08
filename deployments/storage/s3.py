"""Image bytes in a bucket of any S3-compatible server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import boto3
from botocore import exceptions as botocore_errors
from botocore.config import Config
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from deployments.settings.storage import StorageSettings
from deployments.storage.base import Storage, StorageError, StoredObject, check_key, is_key
from deployments.storage.formats import media_type_of
from deployments.storage.s3_errors import code_of, explained

_FOR_EVER = "public, max-age=31536000, immutable"
_CONNECTIONS = 16
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0  # for the next piece of an answer
_ATTEMPTS = 5
_LONGEST_PAUSE_SECONDS = 5.0
_PAGE = 1000


class _BrokenOffError(StorageError):
    """The connection broke off in the middle of an object."""


class S3Storage(Storage):
    """A ``Storage`` of objects in a bucket; credentials come from where boto3 looks for them.

    Requests run in threads of its own, one for each connection. botocore repeats a request that was lost or answered
    with 503, after growing pauses with jitter; here an answer that breaks off halfway is requested again.

    Args:
        settings: The bucket and how to reach it.
        answer_seconds: Longest wait for a server, which is then asked only once; None for the patience above.

    Raises:
        StorageError: The address or the credentials' configuration is not valid.
    """

    def __init__(self, settings: StorageSettings, answer_seconds: float | None = None) -> None:
        super().__init__(ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="s3"))
        self._settings = settings
        self._prefix = settings.object_prefix
        with explained("open the bucket"):
            self._client = _client(settings, settings.endpoint_url, answer_seconds)
            public = settings.public_endpoint_url or settings.endpoint_url
            self._signer = self._client if public == settings.endpoint_url else _client(settings, public)

    async def pages(self, after: str = "") -> AsyncIterator[list[StoredObject]]:
        """Iterate over all objects; see ``Storage``."""
        place: dict[str, str] | None = {"StartAfter": self._prefix + after} if after else {}
        while place is not None:
            answer = await self._run(self._list, place)
            yield [found for each in answer.get("Contents", []) if is_key((found := self._stored(each)).key)]
            place = {"ContinuationToken": answer["NextContinuationToken"]} if answer.get("IsTruncated") else None

    async def sweep_unfinished(self, older_than: timedelta) -> int:
        """Do nothing: an upload in one request is whole or not there."""
        return 0

    async def public_url(self, key: str) -> str | None:
        """Return an address that is valid for some time; see ``Storage``."""
        check_key(key)
        return await self._run(self._sign, key) if self._settings.deliver == "redirect" else None

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._settings.bucket, "Key": self._prefix + key}

    def _check(self) -> None:
        bucket, endpoint = self._settings.bucket, self._settings.endpoint_url
        place = f"bucket {bucket} at {endpoint}" if endpoint else f"bucket {bucket}"
        probe = self._object(f".write-check-{uuid4()}")
        with explained(f"keep images in {place}"):
            self._client.list_objects_v2(Bucket=bucket, Prefix=self._prefix, MaxKeys=1)
            self._check_region(place)
            self._client.put_object(**probe, Body=b"0" * 4096, **self._encryption())
            self._client.delete_object(**probe)

    def _check_region(self, place: str) -> None:
        """Refuse a wrong region: Amazon redirects each request to the right one, which doubles the requests."""
        headers = self._client.head_bucket(Bucket=self._settings.bucket)["ResponseMetadata"]["HTTPHeaders"]
        configured, actual = self._settings.region, headers.get("x-amz-bucket-region")
        if configured and actual and configured != actual:
            raise StorageError(f"Could not keep images in {place}: it is in the region {actual}, not in {configured}.")

    def _write(self, key: str, content: bytes) -> None:
        with explained(f"write {key}"):
            self._client.put_object(
                **self._object(key),
                Body=content,
                ContentMD5=base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
                ContentType=media_type_of(key),
                CacheControl=_FOR_EVER,
                **self._encryption(),
            )

    def _encryption(self) -> dict[str, str]:
        asked = {"ServerSideEncryption": self._settings.encryption, "SSEKMSKeyId": self._settings.encryption_key}
        return {name: value for name, value in asked.items() if value}

    def _read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        patience = Retrying(
            retry=retry_if_exception_type(_BrokenOffError),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_PAUSE_SECONDS),
            reraise=True,
        )
        with explained(f"read {key}", missing=key):
            return patience(self._fetch, key, start, end)

    def _fetch(self, key: str, start: int, end: int | None) -> bytes:
        part = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}
        answer = self._client.get_object(**self._object(key), **part)
        try:
            content: bytes = answer["Body"].read()
        except botocore_errors.BotoCoreError:
            raise _BrokenOffError(f"Could not read {key}: the connection broke off.") from None
        if end is not None and len(content) > end - start:  # a server may ignore Range, and some misread it
            return content[start:end]
        return content

    def _size(self, key: str) -> int:
        with explained(f"read {key}", missing=key):
            try:
                return int(self._client.head_object(**self._object(key))["ContentLength"])
            except botocore_errors.ClientError as error:
                # Such an answer has no words: it may also be the bucket that is gone.
                if code_of(error) == "404":
                    self._require_bucket(key)
                raise

    def _require_bucket(self, key: str) -> None:
        try:
            self._client.head_bucket(Bucket=self._settings.bucket)
        except botocore_errors.ClientError as error:
            if code_of(error) == "404":
                raise StorageError(f"Could not read {key}: the bucket does not exist.") from None
            raise

    def _delete(self, key: str) -> None:
        with explained(f"delete {key}"):
            self._client.delete_object(**self._object(key))

    def _list(self, place: dict[str, str]) -> dict[str, Any]:
        with explained("list the images"):
            answer: dict[str, Any] = self._client.list_objects_v2(
                Bucket=self._settings.bucket, Prefix=self._prefix, MaxKeys=_PAGE, **place
            )
        return answer

    def _stored(self, entry: dict[str, Any]) -> StoredObject:
        return StoredObject(entry["Key"].removeprefix(self._prefix), entry["Size"], entry["LastModified"])

    def _sign(self, key: str) -> str:
        with explained("make an address"):
            url: str = self._signer.generate_presigned_url(
                "get_object", self._object(key), ExpiresIn=self._settings.url_seconds
            )
        return url


def _client(settings: StorageSettings, endpoint_url: str | None, answer_seconds: float | None = None) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=settings.region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if settings.path_style else "auto"},
            max_pool_connections=_CONNECTIONS,
            connect_timeout=answer_seconds or _CONNECT_SECONDS,
            read_timeout=answer_seconds or _READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS if answer_seconds is None else 1},
            # Servers other than Amazon's do not all know the newer checksums; ContentMD5 they do.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
