"""How many requests a client may make in a minute, and where they are counted."""

from __future__ import annotations

import logging

from limits.errors import StorageError

from deployments.settings.protection import LimitSettings
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.rate_windows import RateWindow, RateWindows
from serve.errors import ApiError
from serve.protection.identity import Identity

logger = logging.getLogger(__name__)


class RateLimitedError(ApiError):
    """There were too many requests."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 60) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RateLimits:
    """Counts requests against the limits of keys, addresses and settings.

    The job tracker, or a Redis server, counts the submits of all ingress replicas; each replica counts its own reads.

    Args:
        settings: The limits, and the Redis server.
        tracker: Counts submits.
        local: Counts reads.

    Raises:
        SettingsError: The Redis server cannot be used.
    """

    def __init__(self, settings: LimitSettings, tracker: JobTracker, local: RateWindows | None = None) -> None:
        self._settings = settings
        self._tracker = tracker
        self._local = local or RateWindows()
        self._redis = None if settings.redis_url is None else RateWindows.in_redis(settings.redis_url)

    def use(self, settings: LimitSettings) -> None:
        """Apply other limits from now on; the Redis server stays the same."""
        self._settings = settings

    async def spend_submit(self, who: Identity) -> RateWindow | None:
        """Count a request that queues jobs, among those of all replicas; None where there is no limit."""
        per_minute = who.limits.requests_per_minute or self._settings.submits_per_minute
        if per_minute is None:
            return None
        name = f"submits/{who.rate_key}"
        if self._redis is None:
            return await self._tracker.spend_request(name, per_minute)
        try:
            return await self._redis.spend(name, per_minute)
        except StorageError as error:
            logger.warning("The Redis server of limits.redis_url cannot be used, and the tracker counts: %s", error)
            return await self._tracker.spend_request(name, per_minute)

    async def spend_read(self, who: Identity) -> RateWindow | None:
        """Count another request, among those at this replica; None where there is no limit."""
        per_minute = self._settings.reads_per_minute
        return None if per_minute is None else await self._local.spend(f"reads/{who.rate_key}", per_minute)
