"""Settings of where images are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deployments.settings.group import SettingsGroup

_URL = r"^https?://[^/\s?#@]+/?$"


class StorageSettings(SettingsGroup):
    """Where images are kept, and how they are handed out. Credentials of a bucket are none of these settings."""

    kind: Literal["local", "s3"] = Field(
        default="local", description="Where images are: local, in data_dir; or s3, in a bucket."
    )
    shared: bool = Field(
        default=False, description="For local: whether data_dir is on a file system that every node of the cluster has."
    )
    deliver: Literal["stream", "redirect"] = Field(
        default="stream",
        description="For s3: hand images out ourselves, or send clients to the bucket.",
    )
    bucket: str = Field(default="", max_length=255, description="For s3: the bucket's name.")
    prefix: str = Field(
        default="",
        pattern=r"^([\w.+=-]+/)*[\w.+=-]*$",
        description="For s3: what all objects' names begin with, such as images/.",
    )
    endpoint_url: str | None = Field(
        default=None, pattern=_URL, description="For s3: the server, as http(s)://host:port; empty: Amazon's."
    )
    public_endpoint_url: str | None = Field(
        default=None, pattern=_URL, description="For redirect: the server as clients reach it; empty: endpoint_url."
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+$",
        description="For s3: the bucket's region; empty: what boto3 finds.",
    )
    path_style: bool = Field(
        default=False, description="For s3: host/bucket/key rather than bucket.host/key; most servers but Amazon's."
    )
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="For s3: AES256 or aws:kms, by the server; empty: what the bucket does by itself."
    )
    encryption_key: str | None = Field(default=None, description="For aws:kms: the key's id; empty: the default key.")
    patience_seconds: float = Field(
        default=120.0,
        ge=0,
        description="How long a made image is kept in memory and its writing tried again while the storage fails.",
    )
    url_seconds: int = Field(
        default=3600, ge=60, le=604800, description="For redirect: how long an address of the bucket is valid."
    )

    @model_validator(mode="after")
    def _complete(self) -> StorageSettings:
        if self.kind == "s3" and not self.bucket:
            raise ValueError("kind s3 needs the bucket's name: storage.bucket")
        if self.kind == "local" and self.deliver == "redirect":
            raise ValueError("deliver: redirect needs a bucket: kind s3")
        if self.encryption_key and self.encryption != "aws:kms":
            raise ValueError("encryption_key needs encryption: aws:kms")
        return self

    @property
    def object_prefix(self) -> str:
        """What the names of all objects in the bucket begin with: ``prefix``, ended by a slash; or nothing."""
        return f"{self.prefix.rstrip('/')}/" if self.prefix else ""

    @property
    def image_sources(self) -> tuple[str, ...]:
        """Where a browser is sent for images, in the words of a Content-Security-Policy; nowhere but here if empty."""
        if self.deliver == "stream":
            return ()
        scheme, _, host = (self.public_endpoint_url or self.endpoint_url or "https://amazonaws.com").partition("://")
        host = host.rstrip("/")
        return (f"{scheme}://{host}", f"{scheme}://*.{host}")
