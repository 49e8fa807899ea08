"""What a job tracker is built with."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NotRequired, TypedDict

from deployments.version import package_version


class TrackerSettings(TypedDict):
    """The arguments of a tracker; a tracker with other settings is another tracker."""

    database_url: str
    queue_limit: int
    max_attempts: int
    lease_seconds: float
    queue_limit_per_model: NotRequired[int | None]
    queue_limit_per_client: NotRequired[int | None]
    retry_base_seconds: NotRequired[float]
    retry_cap_seconds: NotRequired[float]
    quota_images: NotRequired[int | None]
    quota_bytes: NotRequired[int | None]
    webhooks: NotRequired[dict[str, Any]]
    resources: NotRequired[dict[str, float]]


def fingerprint(settings: TrackerSettings) -> str:
    """Return a digest of the package's version and the settings."""
    told = [package_version(), {**settings, "lease_seconds": float(settings["lease_seconds"])}]  # 60 is 60.0
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
