"""Links to images that work without an API key, for a while."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request

from deployments.settings.protection import AuthSettings
from deployments.tracker.job_tracker import JobTracker

LINKS = "links"  # of the secrets that the database keeps
_EXPIRES, _SIGNATURE = "expires", "signature"


@dataclass(frozen=True)
class Link:
    """An address.

    Attributes:
        path: With its query, from the service's root on.
        expires_at: When it ceases to work; None where it needs no signature.
    """

    path: str
    expires_at: datetime | None

    def seen_from(self, request: Request) -> str:
        """Return it as a whole URL, as the client of a request reaches the service."""
        return f"{str(request.base_url).rstrip('/')}{self.path}"


class Links:
    """Signs and checks links, by HMAC-SHA256 over the path and the time at which it expires.

    All replicas share the secret, so each can check what another one signed.

    Args:
        settings: Whether links need signatures, how long they are valid, and the secret, if it is a setting.
        tracker: Keeps the secret otherwise.
        clock: Seconds since 1970.
    """

    def __init__(self, settings: AuthSettings, tracker: JobTracker, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._tracker = tracker
        self._clock = clock
        self._secret = settings.signing_secret

    async def link_to(self, path: str) -> Link:
        """Return a link to a path, signed where API keys are asked for.

        Args:
            path: From the service's root on, without a query: ``/api/image/ID``.
        """
        if self._settings.mode == "off":
            return Link(path, None)
        expires = int(self._clock()) + self._settings.link_seconds
        signature = await self._sign(path, expires)
        return Link(f"{path}?{_EXPIRES}={expires}&{_SIGNATURE}={signature}", datetime.fromtimestamp(expires, UTC))

    def is_link(self, method: str, query: Mapping[str, str]) -> bool:
        """Whether a request claims to follow a signed link."""
        return method in ("GET", "HEAD") and _SIGNATURE in query

    async def is_valid(self, path: str, query: Mapping[str, str]) -> bool:
        """Whether a link was signed here and has not expired."""
        expires = query.get(_EXPIRES, "")
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return False
        expected = await self._sign(path, int(expires))
        right = hmac.compare_digest(expected.encode(), query[_SIGNATURE].encode())
        return right and self._clock() < int(expires)

    async def _sign(self, path: str, expires: int) -> str:
        self._secret = self._secret or await self._tracker.keys.secret(LINKS)
        return hmac.new(self._secret.encode(), f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
