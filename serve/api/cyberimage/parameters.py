"""Parameters that several routes of this dialect take from a request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from deployments.jobs.queue.views import JobView
from deployments.jobs.records.exceptions import JobError, UnknownImageError, UnknownJobError
from deployments.jobs.records.jobs import Image
from serve.http.access import Who
from serve.protection.identity import Identity, require_own_image, require_own_job
from serve.services.services import Services


# Coroutines, though they await nothing: FastAPI runs plain functions in threads, which costs more than they do.
async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _caller(who: Who) -> str:
    """Return the caller's name, for fairness and the audit record."""
    return who.name


async def _job_id(job_id: str) -> str:
    """Return the canonical form of an id; one that is no UUID belongs to no job."""
    return _canonical(job_id, UnknownJobError)


async def _image_id(image_id: str) -> str:
    return _canonical(image_id, UnknownImageError)


def _no_number(text: str) -> str:
    """Refuse a number, which Pydantic would take for seconds since 1970."""
    try:
        float(text)
    except ValueError:
        return text
    raise ValueError("it is no time in ISO 8601 such as 2030-01-01T12:00:00Z")


def _in_utc(time: datetime) -> datetime:
    """Return a time in UTC, in which it may be beyond the calendar of Python and of the databases."""
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is outside the years 1 to 9999 in UTC") from None


def _canonical(value: str, unknown: type[JobError]) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise unknown from None


Behind = Annotated[Services, Depends(_services)]
Caller = Annotated[str, Depends(_caller)]
JobId = Annotated[str, Depends(_job_id)]
ImageId = Annotated[str, Depends(_image_id)]
Time = Annotated[AwareDatetime, BeforeValidator(_no_number), AfterValidator(_in_utc)]


async def own_view(behind: Services, who: Identity, job_id: str) -> JobView:
    """Return a job as its owner sees it.

    Raises:
        UnknownJobError: There is none with this id, or it is somebody else's.
    """
    view = await behind.tracker.view(_canonical(job_id, UnknownJobError))
    require_own_job(who, view.job)
    return view


async def _own_job_id(behind: Behind, who: Who, job_id: JobId) -> str:
    """Return the id of the caller's own job; others' jobs are unknown."""
    if not who.sees_all:
        require_own_job(who, await behind.tracker.jobs.get(job_id))
    return job_id


async def _own_image(behind: Behind, who: Who, image_id: ImageId) -> Image:
    image = await behind.tracker.images.get(image_id)
    require_own_image(who, image)
    return image


OwnJobId = Annotated[str, Depends(_own_job_id)]
OwnImage = Annotated[Image, Depends(_own_image)]
