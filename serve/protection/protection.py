"""Decides who a request comes from, and whether there were too many of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from limits.errors import StorageError

from deployments.jobs.records.api_keys import Scope
from deployments.settings.protection import LimitSettings
from deployments.settings.service import Settings
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.rate_windows import RateWindow, RateWindows
from serve.errors import ApiError
from serve.protection.identity import Identity, NotAllowedError
from serve.protection.key_ring import KeyRing, key_in
from serve.protection.links import Links

logger = logging.getLogger(__name__)


class UnauthenticatedError(ApiError):
    """An API key is needed: send it as Authorization: Bearer KEY, as X-API-Key: KEY, or as the password of Basic."""

    status = 401
    code = "missing_api_key"
    # Basic too, so that a browser asks for the key.
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="CyberImage", Basic realm="CyberImage"'})


class WrongKeyError(UnauthenticatedError):
    """The API key is not a valid one; it may have been revoked."""

    code = "invalid_api_key"


class WrongLinkError(NotAllowedError):
    """The link has expired or was changed; ask for a new one."""

    code = "invalid_link"


class RateLimitedError(ApiError):
    """There were too many requests."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 60) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Protection:
    """What an ingress replica lets in.

    Args:
        settings: The service's settings.
        tracker: Knows API keys, and counts the submits of all replicas.
        local: Counts what only this replica counts.
        clock: In seconds, for how long keys are remembered; any beginning.
        now: Seconds since 1970, for links.

    Raises:
        SettingsError: The Redis server of the settings cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        tracker: JobTracker,
        local: RateWindows | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._tracker = tracker
        self._local = local or RateWindows()
        redis_url = settings.limits.redis_url
        self._redis = None if redis_url is None else RateWindows.in_redis(redis_url)
        self._keys = KeyRing(tracker, settings.auth.cache_seconds, clock)
        self.links = Links(settings.auth, tracker, now)

    @property
    def asks_for_keys(self) -> bool:
        """Whether API keys are asked for."""
        return self._settings.auth.mode == "keys"

    def use_limits(self, limits: LimitSettings) -> None:
        """Let in so many requests from now on; which server counts them stays as it is."""
        self._limits = limits

    def anybody(self, address: str) -> Identity:
        """Who asks for what everybody may have; without API keys that is everything."""
        if self.asks_for_keys:
            return Identity(address, address, frozenset())
        return Identity(address, address, frozenset(Scope), sees_all=True)

    async def identify(
        self, address: str, method: str, path: str, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> Identity:
        """Return who asks for what not everybody may have.

        Args:
            address: Where the request comes from.
            method: Of the request.
            path: From the service's root on.
            headers: By their names in lower case.
            query: The parameters.

        Raises:
            UnauthenticatedError: There is no API key.
            WrongKeyError: It is no valid one.
            WrongLinkError: There is a link instead, which is not valid.
            JobError: The tracker does not answer.
        """
        if not self.asks_for_keys:
            return self.anybody(address)
        is_link = self.links.is_link(method, query)
        if is_link and await self.links.is_valid(path, query):
            return Identity(address, address, frozenset({Scope.READ}), sees_all=True)
        key = key_in(headers)
        if key is None:
            raise WrongLinkError if is_link else UnauthenticatedError
        found = await self._keys.find(key)
        if found is None:
            raise WrongKeyError
        return Identity.of_key(found, address)

    async def spend_submit(self, who: Identity) -> RateWindow | None:
        """Count a request that queues jobs, among those of all replicas; None where there is no limit."""
        per_minute = who.limits.requests_per_minute or self._limits.submits_per_minute
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
        per_minute = self._limits.reads_per_minute
        return None if per_minute is None else await self._local.spend(f"reads/{who.rate_key}", per_minute)
