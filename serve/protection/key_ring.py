"""The API keys that an ingress replica has looked up."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping

from cachetools import FIFOCache, TTLCache

from deployments.jobs.records.api_keys import ApiKey, hash_of, key_id_of
from deployments.tracker.job_tracker import JobTracker

_MOST_REMEMBERED = 10_000
_VALID_SECONDS = 3600.0


class KeyRing:
    """Looks up keys at the job tracker, and caches the answers for some seconds, so that few requests wait for it.

    Args:
        tracker: Has all keys.
        seconds: How long an answer is cached.
        clock: In seconds; any beginning.
    """

    def __init__(self, tracker: JobTracker, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tracker = tracker
        self._seconds = seconds
        self._clock = clock
        # By the keys' hashes: how long a look-up takes says nothing of a key.
        self._remembered: FIFOCache[str, tuple[float, ApiKey | None]] = FIFOCache(_MOST_REMEMBERED)
        self._valid: TTLCache[str, bool] = TTLCache(_MOST_REMEMBERED, _VALID_SECONDS, clock)

    async def find(self, key: str) -> ApiKey | None:
        """Return what is known of a key; None where it is none, or was revoked.

        Args:
            key: The whole key.

        Raises:
            JobError: The tracker does not answer.
        """
        key_id = key_id_of(key)
        if key_id is None:
            return None
        digest, now = hash_of(key), self._clock()
        until, known = self._remembered.get(digest, (now, None))
        if now < until:
            return known
        found = await self._tracker.keys.check(key_id, digest)
        self._remembered[digest] = (now + self._seconds, found)
        if found is not None:
            self._valid[digest] = True
        else:
            self._valid.pop(digest, None)
        return found

    def was_valid(self, key: str) -> bool:
        """Whether a key was found within the last hour, and has not been revoked since, as far as is known here.

        Args:
            key: The whole key.
        """
        return hash_of(key) in self._valid


def key_in(headers: Mapping[str, str]) -> str | None:
    """Return the API key that a request shows: a bearer token, a Basic password or X-API-Key; None for none.

    What cannot be read is an empty key.

    Args:
        headers: By their names in lower case.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except ValueError:  # it is no Base64, not even ASCII, or no UTF-8 in it
            return ""
    return headers.get("x-api-key")
