"""Settings that change while the service runs: Ray Serve hands a deployment's ``user_config`` to its replicas."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from deployments.settings.group import SettingsGroup
from deployments.settings.telemetry import LogLevel

logger = logging.getLogger(__name__)


class LiveSettings(SettingsGroup):
    """What every replica takes; what is left out is as the settings say."""

    log_level: LogLevel | None = Field(default=None, description="As logging.level.")


class LiveLimits(SettingsGroup):
    """As ``limits`` of the settings; what is left out is as those say."""

    submits_per_minute: int | None = Field(default=None, ge=1, description="As limits.submits_per_minute.")
    reads_per_minute: int | None = Field(default=None, ge=1, description="As limits.reads_per_minute.")


class LiveIngressSettings(LiveSettings):
    """What the ingress takes."""

    limits: LiveLimits = Field(default=LiveLimits(), description="Requests per minute.")


Live = TypeVar("Live", bound=LiveSettings)


def read_live_settings(kind: type[Live], user_config: Any) -> Live | None:
    """Check a ``user_config``; None where it is not valid, which the log then says.

    Ray Serve would take a replica that raises here for broken: a slip of the pen must not end what runs.

    Args:
        kind: What the deployment takes.
        user_config: As it comes from YAML.
    """
    try:
        return kind.model_validate(user_config)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_input=False):
            place = ".".join(str(part) for part in ("user_config", *details["loc"]))
            logger.error("%s: %s; nothing of it is taken", place, details["msg"])  # noqa: TRY400 - no traceback
        return None
