"""Decides who a request comes from; :mod:`serve.protection.rate_limits` decides whether there were too many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from deployments.jobs.records.api_keys import Scope
from deployments.settings.service import Settings
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.rate_windows import RateWindows
from serve.errors import ApiError
from serve.protection.identity import Identity, NotAllowedError
from serve.protection.key_ring import KeyRing, key_in
from serve.protection.links import Links
from serve.protection.rate_limits import RateLimits


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


class Protection:
    """Authenticates the requests of an ingress replica, and limits their rates.

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
        self.rate_limits = RateLimits(settings.limits, tracker, local)
        self._keys = KeyRing(tracker, settings.auth.cache_seconds, clock)
        self.links = Links(settings.auth, tracker, now)

    @property
    def asks_for_keys(self) -> bool:
        """Whether requests need an API key."""
        return self._settings.auth.mode == "keys"

    def anybody(self, address: str) -> Identity:
        """Return the identity of an anonymous caller; without API keys it may do everything."""
        if self.asks_for_keys:
            return Identity(address, address, frozenset())
        return Identity(address, address, frozenset(Scope), sees_all=True)

    async def identify(
        self, address: str, method: str, path: str, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> Identity:
        """Authenticate a request.

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
