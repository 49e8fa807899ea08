"""What the tests of storages share."""

from __future__ import annotations

from typing import Any

from deployments.settings.storage import StorageSettings
from deployments.storage.s3 import S3Storage

IDENTITY = "0c7d4c2e-9a9c-5b0e-8f4f-0123456789ab"
KEY = f"2031/02/03/{IDENTITY}.png"
PREFIX = "cyber/images/"


def key_of(number: int, day: str = "2031/02/03", extension: str = "png") -> str:
    """A key; keys of one day are in the order of their numbers."""
    return f"{day}/{number:08x}{IDENTITY[8:]}.{extension}"


def bucket_at(url: str, name: str, **options: Any) -> S3Storage:
    """A storage in a bucket of a server of the tests."""
    known = {"prefix": PREFIX, "region": "us-east-1", "path_style": True}
    return S3Storage(StorageSettings(kind="s3", bucket=name, endpoint_url=url, **known | options))
