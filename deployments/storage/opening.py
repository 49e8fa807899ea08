"""Opens the image storage that the settings name."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from pydantic import ValidationError

from deployments.settings.service import Settings, SettingsError
from deployments.settings.storage import StorageSettings
from deployments.storage.base import Storage, StorageError
from deployments.storage.local import LocalStorage


def open_storage(settings: Settings) -> Storage:
    """The image storage.

    Raises:
        StorageError: The way to the bucket is not valid.
    """
    return open_bucket(settings.storage) if settings.storage.kind == "s3" else LocalStorage(settings.images_dir)


def open_bucket(settings: StorageSettings) -> Storage:
    """The bucket that the settings name, whatever their ``kind``.

    Raises:
        StorageError: The way to the bucket is not valid.
    """
    from deployments.storage.s3 import Bucket, S3Storage  # noqa: PLC0415 - boto3 takes long to import

    return S3Storage(
        Bucket(
            name=settings.bucket,
            prefix=f"{settings.prefix.rstrip('/')}/" if settings.prefix else "",
            endpoint_url=settings.endpoint_url,
            public_endpoint_url=settings.public_endpoint_url,
            region=settings.region,
            path_style=settings.path_style,
            encryption=settings.encryption,
            encryption_key=settings.encryption_key,
            connections=settings.connections,
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.read_timeout_seconds,
            attempts=settings.attempts,
            url_seconds=settings.url_seconds if settings.deliver == "redirect" else None,
        )
    )


def storage_at(place: str, settings: Settings) -> Storage:
    """The storage at a place that a person names.

    Args:
        place: ``local``: the data folder's; ``s3``: the bucket of the settings; ``s3://bucket/prefix``, with settings
            of the group ``storage`` that differ from ours behind it, as ``?endpoint_url=https://host&path_style=true``;
            or a folder, written with a slash.
        settings: The service's settings.

    Raises:
        SettingsError: It is none of these; one line says why.
        StorageError: The way to the bucket is not valid.
    """
    if place == "local":
        return LocalStorage(settings.images_dir)
    if place == "s3" or place.startswith("s3://"):
        return open_bucket(_bucket_named(place, settings.storage))
    if "/" not in place:
        raise SettingsError(f"{place}: it is none of local, s3, s3://bucket/prefix and a folder, as ./{place}")
    return LocalStorage(Path(place).absolute())


def _bucket_named(place: str, settings: StorageSettings) -> StorageSettings:
    address = urlsplit(place)
    named: dict[str, str] = {"kind": "s3", **dict(parse_qsl(address.query, keep_blank_values=True))}
    if address.netloc:
        named |= {"bucket": address.netloc, "prefix": address.path.strip("/")}
    try:
        return StorageSettings.model_validate(settings.model_dump() | named)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(["storage", *map(str, details["loc"])])
        raise SettingsError(
            f"{place.partition('?')[0]}: {field}: {details['msg'].removeprefix('Value error, ')}"
        ) from None


def prepare_storage(settings: Settings) -> None:
    """Make sure, before anything is started, that images can be kept.

    Raises:
        SettingsError: They cannot; one line says why.
    """
    try:
        storage = open_storage(settings)
        with ThreadPoolExecutor(1) as thread:  # the caller's own may have a loop that runs
            thread.submit(asyncio.run, storage.check()).result()
    except StorageError as error:
        raise SettingsError(f"storage: {error}") from None
