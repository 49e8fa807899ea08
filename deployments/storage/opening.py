"""Opens the image storage that the settings name."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from pydantic import ValidationError

from deployments.settings.service import SettingsError
from deployments.settings.storage import StorageSettings
from deployments.storage.base import Storage, StorageError
from deployments.storage.local import LocalStorage


def open_storage(settings: StorageSettings, images_dir: Path, answer_seconds: float | None = None) -> Storage:
    """Open the image storage.

    Args:
        settings: Which storage, and how to reach it.
        images_dir: The folder of a local storage.
        answer_seconds: Longest wait for a bucket's server, which is then asked only once; None for more patience.

    Raises:
        StorageError: The address or the credentials' configuration of the bucket is not valid.
    """
    return _open_bucket(settings, answer_seconds) if settings.kind == "s3" else LocalStorage(images_dir)


def storage_at(place: str, settings: StorageSettings, images_dir: Path) -> Storage:
    """Open the storage that a person names.

    Args:
        place: ``local``: ``images_dir``; ``s3``: the bucket of the settings; ``s3://bucket/prefix``, followed by the
            settings of the group ``storage`` that differ, as ``?endpoint_url=https://host&path_style=true``;
            or a folder, written with a slash.
        settings: The service's bucket, and how to reach it.
        images_dir: The service's folder of images.

    Raises:
        SettingsError: It is none of these; one line says why.
        StorageError: The address or the credentials' configuration of the bucket is not valid.
    """
    if place == "local":
        return LocalStorage(images_dir)
    if place == "s3" or place.startswith("s3://"):
        return _open_bucket(_bucket_named(place, settings))
    if "/" not in place:
        raise SettingsError(f"{place}: it is none of local, s3, s3://bucket/prefix and a folder, as ./{place}")
    return LocalStorage(Path(place).absolute())


def prepare_storage(settings: StorageSettings, images_dir: Path) -> None:
    """Make sure, before anything is started, that the storage of :func:`open_storage` takes images.

    Raises:
        SettingsError: It does not; one line says why.
    """
    try:
        storage = open_storage(settings, images_dir)
        with ThreadPoolExecutor(1) as thread:  # the caller's own may have a loop that runs
            thread.submit(asyncio.run, storage.check()).result()
    except StorageError as error:
        raise SettingsError(f"storage: {error}") from None


def _open_bucket(settings: StorageSettings, answer_seconds: float | None = None) -> Storage:
    from deployments.storage.s3 import S3Storage  # noqa: PLC0415 - boto3 takes long to import

    return S3Storage(settings, answer_seconds)


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
