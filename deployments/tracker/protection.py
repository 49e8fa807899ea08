"""The part of the job tracker that keeps others out: API keys, shared secrets, requests per minute."""

from __future__ import annotations

from deployments.jobs.keys import StoreKeys
from deployments.jobs.records.api_keys import ApiKey, NewKey
from deployments.tracker.part import TrackerPart
from deployments.tracker.rate_windows import RateWindow, RateWindows


class TrackerProtection(TrackerPart):
    """Each method raises what the method of :class:`StoreKeys` with its name raises."""

    _windows: RateWindows

    async def _keys(self) -> StoreKeys:
        return (await self._store()).keys

    async def add_key(self, key_id: str, key_hash: str, new: NewKey, who: str) -> ApiKey:
        """Keep a new API key, or return the one that already has this id."""
        return await (await self._keys()).add(key_id, key_hash, new, who)

    async def list_keys(self) -> list[ApiKey]:
        """Return every API key, revoked ones included, the oldest first."""
        return await (await self._keys()).list()

    async def revoke_key(self, key_id: str, who: str) -> ApiKey:
        """Let an API key be good for nothing any more, and return it."""
        return await (await self._keys()).revoke(key_id, who)

    async def check_key(self, key_id: str, key_hash: str) -> ApiKey | None:
        """Return the API key with this id and hash; None where there is none, or it was revoked."""
        return await (await self._keys()).check(key_id, key_hash)

    async def shared_secret(self, name: str) -> str:
        """Return a secret that all who use the database share."""
        return await (await self._keys()).secret(name)

    async def spend_request(self, who: str, per_minute: int) -> RateWindow:
        """Count a request, as :meth:`RateWindows.spend`; in memory, so a tracker that was restarted begins anew."""
        return await self._windows.spend(who, per_minute)
