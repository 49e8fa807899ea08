"""Settings of what each owner may keep, and of how the place where images are is tidied up."""

from __future__ import annotations

from pydantic import Field

from deployments.settings.group import SettingsGroup


class QuotaSettings(SettingsGroup):
    """What each owner, an API key's name or an address, may keep."""

    images: int | None = Field(
        default=None, ge=1, description="Images of an owner above which its jobs are refused with 507; empty: no limit."
    )
    image_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Bytes of an owner's images from which on its jobs are refused; empty: no limit.",
    )


class UpkeepSettings(SettingsGroup):
    """How what nobody needs is removed."""

    interval_seconds: float | None = Field(
        default=86400.0, gt=0, description="Seconds between two sweeps of the storage; empty: only on demand."
    )
    orphan_seconds: float = Field(
        default=86400.0, ge=3600, description="Age from which on a file without a record is removed; at least an hour."
    )
    input_seconds: float = Field(
        default=86400.0, ge=3600, description="Age from which on a picture that was sent and no job names is removed."
    )
