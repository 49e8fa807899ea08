"""Counts requests per minute, by the ``limits`` package: in this process's memory, or in a Redis server."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from deployments.settings.service import SettingsError

# A request waits for the count. A server that takes longer counts as one that is away.
_REDIS_SECONDS = 1.0


@dataclass(frozen=True)
class RateWindow:
    """Where a client stands within its minute.

    Attributes:
        limit: Requests that it may make in a minute.
        remaining: Those that are left of them.
        reset_seconds: Until the minute is over.
        exceeded: Whether the request that was counted last was one too many.
    """

    limit: int
    remaining: int
    reset_seconds: int
    exceeded: bool = False


class RateWindows:
    """Windows of one minute, each beginning with its first request.

    What is over is forgotten by the storage itself.

    Args:
        storage: Where they are counted; this process's memory by default.
        clock: The storage's clock, in seconds since 1970.
    """

    def __init__(self, storage: Storage | None = None, clock: Callable[[], float] = time.time) -> None:
        self._limiter = FixedWindowRateLimiter(storage or MemoryStorage())
        self._clock = clock

    @classmethod
    def in_redis(cls, url: str) -> RateWindows:
        """Windows that all who name this server share.

        Args:
            url: ``redis://`` or ``rediss://``, with user and password where the server wants them.

        Raises:
            SettingsError: The URL cannot be used, or the package ``redis`` is not installed.
        """
        try:
            storage = storage_from_string(
                f"async+{url}",
                implementation="redispy",
                wrap_exceptions=True,
                socket_connect_timeout=_REDIS_SECONDS,
                socket_timeout=_REDIS_SECONDS,
            )
        except (ConfigurationError, ValueError) as error:
            raise SettingsError(f"limits.redis_url (CYBERIMAGE_LIMITS__REDIS_URL): {_reason(error)}") from None
        if not isinstance(storage, Storage):
            raise SettingsError("limits.redis_url (CYBERIMAGE_LIMITS__REDIS_URL): it is not the URL of a Redis server")
        return cls(storage)

    async def spend(self, who: str, per_minute: int) -> RateWindow:
        """Count a request.

        Args:
            who: Whose window, and of what.
            per_minute: Requests that there may be in it.

        Raises:
            limits.errors.StorageError: The Redis server cannot be used.
        """
        item = RateLimitItemPerMinute(per_minute)
        allowed = await self._limiter.hit(item, who)
        return replace(await self.look(who, per_minute), exceeded=not allowed)

    async def look(self, who: str, per_minute: int) -> RateWindow:
        """Return a window without counting anything.

        Args:
            who: Whose window, and of what.
            per_minute: Requests that there may be in it.

        Raises:
            limits.errors.StorageError: The Redis server cannot be used.
        """
        reset_at, remaining = await self._limiter.get_window_stats(RateLimitItemPerMinute(per_minute), who)
        left = max(1, math.ceil(reset_at - self._clock()))
        return RateWindow(per_minute, max(0, remaining), left)


def _reason(error: Exception) -> str:
    """Nothing of the URL, as it may hold a password."""
    if isinstance(error, ConfigurationError) and "prerequisite" in str(error):
        return 'the package redis is not installed; pip install "cyberimage[redis]"'
    return "it is not the URL of a Redis server"
