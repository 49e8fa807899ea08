"""The scope that a route requires: each route has one of these dependencies, unless its path is public.

There is no `from __future__ import annotations` here: FastAPI cannot resolve the annotations of a callable object.
"""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from deployments.jobs.records.api_keys import Scope
from serve.protection.identity import Identity, NotAllowedError
from serve.protection.rate_limits import RateLimitedError, RateLimits

_PUBLIC_PATHS = frozenset({"/", "/live", "/health", "/docs", "/openapi.json"})
_PUBLIC_FOLDERS = ("/static/", "/docs/")


def is_public(path: str) -> bool:
    """Whether a path needs no API key: the page, the API's description, the liveness check.

    Args:
        path: From the service's root on.
    """
    return path in _PUBLIC_PATHS or path.startswith(_PUBLIC_FOLDERS)


def identity_of(request: Request) -> Identity:
    """Return the caller."""
    identity: Identity = request.state.identity
    return identity


async def _who(request: Request) -> Identity:
    return identity_of(request)


Who = Annotated[Identity, Depends(_who)]


class Access(SecurityBase):
    """Requires a scope of the caller's API key, and counts the request against the rate limits.

    Args:
        scope: The scope that the key must have.
        submits: Whether the route queues jobs.
    """

    def __init__(self, scope: Scope, *, submits: bool = False) -> None:
        self.scope = scope
        self.submits = submits
        self.scheme_name = "API key"
        self.model = HTTPBearer(
            description="Only where `auth.mode` is `keys`. `X-API-Key: KEY` does too, and KEY as the password of Basic."
        )

    async def __call__(self, request: Request) -> None:
        """Check the caller of a request.

        Raises:
            NotAllowedError: The key does not have this scope.
            RateLimitedError: There were too many requests.
        """
        who = identity_of(request)
        if self.scope not in who.scopes:
            raise NotAllowedError(f"Your API key may not do that: it needs the scope {self.scope}.")
        limits: RateLimits = request.app.state.services.protection.rate_limits
        window = await (limits.spend_submit(who) if self.submits else limits.spend_read(who))
        request.state.rate_window = window
        if window is not None and window.exceeded:
            raise RateLimitedError(
                f"There were more than {window.limit} requests in a minute; try again in {window.reset_seconds} s.",
                retry_after_seconds=window.reset_seconds,
            )


# For routes with several operations, as of JSON-RPC: they await these once they know the operation.
MAY_CHANGE = Access(Scope.GENERATE)
MAY_SUBMIT = Access(Scope.GENERATE, submits=True)

READS = Security(Access(Scope.READ))
CHANGES = Security(MAY_CHANGE)
SUBMITS = Security(MAY_SUBMIT)
ADMINISTERS = Security(Access(Scope.ADMIN))
