"""What the routes of this dialect take from a request."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from deployments.jobs.exceptions import JobError, UnknownImageError, UnknownJobError
from serve.services import Services


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _job_id(job_id: str) -> str:
    """An id that is no UUID names nothing."""
    return _canonical(job_id, UnknownJobError)


def _image_id(image_id: str) -> str:
    return _canonical(image_id, UnknownImageError)


def _canonical(value: str, unknown: type[JobError]) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise unknown from None


Behind = Annotated[Services, Depends(_services)]
JobId = Annotated[str, Depends(_job_id)]
ImageId = Annotated[str, Depends(_image_id)]
