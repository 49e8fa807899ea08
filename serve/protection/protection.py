"""Decides who a request comes from; :mod:`serve.protection.rate_limits` decides whether there were too many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from deployments.jobs.records.api_keys import ApiKey, Scope
from deployments.settings.service import Settings
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.rate_windows import RateWindows
from serve.errors import ApiError
from serve.protection.identity import Identity, NotAllowedError
from serve.protection.key_ring import KeyRing, key_in
from serve.protection.links import Links
from serve.protection.rate_limits import RateLimits
from serve.protection.wrong_keys import Pause, WrongKeys


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


@dataclass(frozen=True)
class Clocks:
    """How time passes.

    Attributes:
        monotonic: In seconds, for how long keys are remembered; any beginning.
        now: Seconds since 1970, for links.
        pause: Waits for some seconds, before a refusal.
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    pause: Pause = asyncio.sleep


class Protection:
    """Authenticates the requests of an ingress replica, and limits their rates.

    Args:
        settings: The service's settings.
        tracker: Knows API keys, and counts the submits of all replicas.
        local: Counts what only this replica counts.
        clocks: Tell the time.

    Raises:
        SettingsError: The Redis server of the settings cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        tracker: JobTracker,
        local: RateWindows | None = None,
        clocks: Clocks = Clocks(),
    ) -> None:
        self._settings = settings
        local = local or RateWindows()
        self.rate_limits = RateLimits(settings.limits, tracker, local)
        self._keys = KeyRing(tracker, settings.auth.cache_seconds, clocks.monotonic)
        self._wrong_keys = WrongKeys(settings.auth.wrong_keys_per_minute, local, clocks.pause)
        self.links = Links(settings.auth, tracker, clocks.now)

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
            TooManyWrongKeysError: There were too many of both from this network; a link or a key that was valid here
                within the last hour still opens.
            JobError: The tracker does not answer.
        """
        if not self.asks_for_keys:
            return self.anybody(address)
        is_link = self.links.is_link(method, query)
        if is_link and await self.links.is_valid(path, query):
            return Identity(address, address, frozenset({Scope.READ}), sees_all=True)
        key = key_in(headers)
        if key is None and not is_link:
            raise UnauthenticatedError
        found = await self._find(address, key)
        if found is None:
            raise WrongLinkError if key is None else WrongKeyError
        return Identity.of_key(found, address)

    async def _find(self, address: str, key: str | None) -> ApiKey | None:
        """Look up a key; None for a wrong one, and for a wrong link instead of one."""
        if key is not None and self._keys.was_valid(key) and (found := await self._keys.find(key)) is not None:
            return found  # an honest client may share its network with whoever tries wrong keys

        async def look_up() -> ApiKey | None:
            return None if key is None else await self._keys.find(key)

        return await self._wrong_keys.attempt(address, look_up)
