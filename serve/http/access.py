"""What a route asks of its caller: each names one of these among its dependencies, unless its path is public.

Annotations are evaluated here: FastAPI cannot look up the names in those of an object that is called.
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
    """Whether everybody may have what is at a path: the page, the API's description, whether the service lives.

    Args:
        path: From the service's root on.
    """
    return path in _PUBLIC_PATHS or path.startswith(_PUBLIC_FOLDERS)


def identity_of(request: Request) -> Identity:
    """Return who asks."""
    identity: Identity = request.state.identity
    return identity


async def _who(request: Request) -> Identity:
    return identity_of(request)


Who = Annotated[Identity, Depends(_who)]


class Access(SecurityBase):
    """Lets those in whose API key has a scope, while there are not too many requests.

    Args:
        scope: What is to be done.
        submits: Whether it queues jobs.
    """

    def __init__(self, scope: Scope, *, submits: bool = False) -> None:
        self.scope = scope
        self.submits = submits
        self.scheme_name = "API key"
        self.model = HTTPBearer(
            description="Only where `auth.mode` is `keys`. `X-API-Key: KEY` does too, and KEY as the password of Basic."
        )

    async def __call__(self, request: Request) -> None:
        """Check a request, whose key was read already.

        Raises:
            NotAllowedError: The key has not this scope.
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


# For routes by which several things can be done: they await these once it is known what.
MAY_CHANGE = Access(Scope.GENERATE)
MAY_SUBMIT = Access(Scope.GENERATE, submits=True)

READS = Security(Access(Scope.READ))
CHANGES = Security(MAY_CHANGE)
SUBMITS = Security(MAY_SUBMIT)
ADMINISTERS = Security(Access(Scope.ADMIN))
