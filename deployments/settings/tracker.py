"""What a job tracker is built with."""

from __future__ import annotations

import hashlib
import json

from pydantic import Field

from deployments.settings.group import SettingsGroup
from deployments.settings.service import QueueSettings, WebhookSettings
from deployments.settings.upkeep import QuotaSettings
from deployments.version import package_version


class TrackerSettings(SettingsGroup):
    """The settings of a tracker; a tracker with other settings is another tracker."""

    database_url: str = Field(repr=False)  # it may hold a password
    """An SQLAlchemy URL with an async driver."""
    queue: QueueSettings = QueueSettings()
    quota: QuotaSettings = QuotaSettings()
    webhooks: WebhookSettings = WebhookSettings()
    resources: dict[str, float] = Field(default={})
    """Ray resources, by name, of the node that the tracker is put on."""

    @property
    def fingerprint(self) -> str:
        """A digest of the package's version and the settings."""
        described = [package_version(), self.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
