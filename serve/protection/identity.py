"""Who asks, and what is theirs."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.jobs.records.api_keys import NO_LIMITS, ApiKey, KeyLimits, Scope
from deployments.jobs.records.exceptions import UnknownImageError, UnknownJobError, UnknownPictureError
from deployments.jobs.records.jobs import Image, Job, JobRequest, Picture, PriorityClass
from serve.errors import ApiError
from serve.protection.trusted_proxies import network_of


class NotAllowedError(ApiError):
    """Your API key may not do that."""

    status = 403
    code = "not_allowed"


@dataclass(frozen=True)
class Identity:
    """Who asks.

    Attributes:
        name: What fairness, the audit record and ownership go by: the API key's name, or the address.
        address: Where the request comes from.
        scopes: What may be done.
        key_id: Of the API key; None where none was shown, or none is asked for.
        limits: Of the API key.
        sees_all: Whether everybody's jobs and images are there for this one.
    """

    name: str
    address: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    limits: KeyLimits = NO_LIMITS
    sees_all: bool = False

    @classmethod
    def of_key(cls, key: ApiKey, address: str) -> Identity:
        """Who shows an API key."""
        scopes = frozenset(Scope) if Scope.ADMIN in key.scopes else frozenset(key.scopes)
        return cls(key.owner, address, scopes, key.id, key.limits, sees_all=Scope.ADMIN in key.scopes)

    @property
    def rate_key(self) -> str:
        """What the rate limits count by: the API key, else the address, for IPv6 its network."""
        if self.key_id is not None:
            return f"key/{self.key_id}"
        return f"address/{network_of(self.address)}"

    def owns(self, client: str) -> bool:
        """Whether this caller may see what belongs to a client."""
        return self.sees_all or client == self.name

    def limited_to(self, client: str | None) -> str | None:
        """Return whose records a list shows, None for everybody's.

        Args:
            client: The one that was asked for; None where all were.
        """
        return client if self.sees_all else self.name


def require_own_job(who: Identity, job: Job) -> None:
    """Raise :class:`UnknownJobError` for a job of somebody else, as for one that does not exist."""
    if not who.owns(job.request.client):
        raise UnknownJobError(f"There is no job {job.id}.")


def require_own_image(who: Identity, image: Image) -> None:
    """Raise :class:`UnknownImageError` for an image of somebody else, as for one that does not exist."""
    if not who.owns(image.client):
        raise UnknownImageError(f"There is no image {image.id}.")


def require_own_picture(who: Identity, picture: Picture) -> None:
    """Raise :class:`UnknownPictureError` for a picture of somebody else, as for one that does not exist."""
    if not who.owns(picture.client):
        raise UnknownPictureError(f"There is no input and no image {picture.id}.")


def within_key(who: Identity, request: JobRequest, asked: PriorityClass | None) -> JobRequest:
    """Return a request as the caller's key may make it.

    Args:
        who: The caller.
        request: Complete.
        asked: The class of priority that was asked for; where none was, the highest one that may be is taken.

    Raises:
        NotAllowedError: The key is not for this model, or not for this class.
    """
    limits = who.limits
    if limits.models and request.model_id not in limits.models:
        raise NotAllowedError(
            f"model_id: your API key is not for {request.model_id}; it is for {', '.join(limits.models)}."
        )
    if asked is not None:
        require_priority(who, asked)
    if request.priority.rank >= limits.priority.rank:
        return request
    return request.model_copy(update={"priority": limits.priority})


def require_priority(who: Identity, asked: PriorityClass) -> None:
    """Raise :class:`NotAllowedError` for a class of priority above the highest one of the caller's key."""
    highest = who.limits.priority
    if asked.rank < highest.rank:
        raise NotAllowedError(f"priority: {asked} is not for your API key; {highest} is its highest class.")
