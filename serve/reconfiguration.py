"""Applies a changed ``user_config`` to a running ingress replica."""

from __future__ import annotations

import logging
from typing import Any

from deployments.jobs.records.exceptions import JobError
from deployments.settings.live import LiveIngressSettings, read_live_settings
from deployments.telemetry.logs import set_log_level
from serve.services.services import Services

logger = logging.getLogger(__name__)


async def apply_live_settings(services: Services, user_config: Any) -> None:
    """Apply a ``user_config`` here and at the job tracker; one that is not valid changes nothing.

    Args:
        services: The parts behind the edge.
        user_config: As it comes from YAML.
    """
    live = read_live_settings(LiveIngressSettings, user_config)
    if live is None:
        return
    settings = services.settings
    level = live.log_level or settings.logging.level
    set_log_level(level)
    services.protection.rate_limits.use(settings.limits.model_copy(update=live.limits.model_dump(exclude_none=True)))
    try:
        await services.tracker.set_log_level(level)
    except JobError:
        logger.exception("The log level %s could not be set at the job tracker", level)
