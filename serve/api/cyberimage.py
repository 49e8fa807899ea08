"""The CyberImage dialect: submit a job, follow it, fetch its images."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response, status

from deployments.jobs.exceptions import JobError, UnknownImageError, UnknownJobError
from deployments.jobs.records import Image, JobState
from deployments.model_state import ModelCondition, ModelState
from deployments.previews import MEDIA_TYPE as PREVIEW_TYPE
from deployments.storage.base import StorageError
from serve.api import examples
from serve.api.byte_range import respond_with_bytes
from serve.api.errors import DATABASE_DOWN, ApiError, public_message
from serve.api.schemas import (
    DetailedQueueAnswer,
    DoneAnswer,
    GenerateAnswer,
    GenerateBody,
    HealthAnswer,
    ModelsAnswer,
    QueueAnswer,
    SettingsBody,
    StatusAnswer,
)
from serve.services import Services
from serve.submission import IdempotencyConflictError, asks_the_same, new_job_id, plan_job

logger = logging.getLogger(__name__)


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

_Responses = dict[int | str, dict[str, Any]]
_BAD: _Responses = {
    400: examples.error(
        "A field is missing or not valid; the message names it.",
        "settings.num_inference_steps: 0 is not possible; this model takes 1 to 100.",
    ),
    413: examples.error(
        "The body is too large.", "The request body is larger than the 1048576 bytes that are allowed."
    ),
}


class NoPreviewError(ApiError):
    """There is no preview of this job: it has not taken a step yet, or ended some time ago."""

    status = 404


_NO_PREVIEW: _Responses = {404: examples.error("There is no such job, or no preview of it.", str(NoPreviewError()))}
_OTHER_BODY: _Responses = {409: examples.error("The key belongs to another request.", str(IdempotencyConflictError()))}
_BAD_QUERY: _Responses = {400: examples.error("A parameter is not valid.", 'detailed: "maybe" is not true or false.')}
_UNKNOWN_JOB: _Responses = {404: examples.error("There is no such job.", "There is no such job.")}
_UNKNOWN_IMAGE: _Responses = {404: examples.error("There is no such image.", "There is no such image.")}
_DOWN: _Responses = {
    503: examples.error(
        "A part of the service is down; try again later.", "The job tracker does not answer; it is being restarted."
    )
}
_FULL_OR_DOWN: _Responses = {
    503: examples.error(
        "The queue is full, and `Retry-After` says in how many seconds to try again; or a part of the service is down.",
        "The queue is full (1000 jobs wait); try again later.",
    )
}
_PNG: dict[str, Any] = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
_PICTURE: _Responses = {
    200: {"content": _PNG, "description": "The image."},
    206: {"content": _PNG, "description": "The part that the Range header asks for."},
    304: {"description": "The caller's copy is the image."},
    416: examples.error("The image has no such part.", "Range: the image has only 812 bytes, from 0 on."),
}
_IMAGE_ANSWERS = _PICTURE | _UNKNOWN_IMAGE | _DOWN

router = APIRouter()


@router.get(
    "/health",
    tags=["service"],
    responses={
        200: examples.answer(examples.HEALTH, degraded=examples.DEGRADED),
        503: {
            "model": HealthAnswer,
            "description": "A part of the service is down; its own field has a sentence about it.",
            **examples.answer(examples.UNHEALTHY),
        },
    },
)
@router.head("/health", include_in_schema=False)
async def health(behind: Behind, response: Response) -> HealthAnswer:
    """Whether the service can take and finish jobs."""
    tracker, database = "ok", "ok"
    try:
        database = str((await behind.tracker.describe())["database"])
    except JobError as error:
        tracker = database = public_message(error)
    if database not in ("ok", tracker):
        logger.warning("%s", database)
        database = DATABASE_DOWN
    storage = await _storage_state(behind)
    models = tracker if tracker != "ok" else await _load_failures(behind)
    works = {tracker, database, storage} == {"ok"}
    if not works:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return HealthAnswer(
        status="unhealthy" if not works else "healthy" if models == "ok" else "degraded",
        database=database,
        tracker=tracker,
        storage=storage,
        models=models,
    )


async def _storage_state(behind: Services) -> str:
    try:
        await behind.storage.exists("1970/01/01/00000000-0000-0000-0000-000000000000.png")
    except StorageError as error:
        return str(error)
    return "ok"


async def _load_failures(behind: Services) -> str:
    conditions = (await _model_conditions(behind)).items()
    failures = [f"{key}: {found.reason}" for key, found in conditions if found.state is ModelState.UNAVAILABLE]
    return " ".join(failures) or "ok"


async def _model_conditions(behind: Services) -> dict[str, ModelCondition]:
    """What the tracker knows of the models; where it does not answer, nobody knows."""
    fingerprints = {model_id: entry.fingerprint for model_id, entry in behind.catalog.models.items()}
    try:
        return await behind.tracker.model_conditions(fingerprints)
    except JobError:
        return dict.fromkeys(fingerprints, ModelCondition(ModelState.UNKNOWN))


@router.get("/api/models", tags=["models"], responses={200: examples.answer(examples.MODELS)})
async def models(behind: Behind) -> ModelsAnswer:
    """The models, what each may be asked for, and whether it is loaded."""
    conditions = await _model_conditions(behind)
    entries = {
        model_id: entry.public(model_id) | asdict(conditions[model_id])
        for model_id, entry in behind.catalog.models.items()
    }
    return ModelsAnswer(models=entries, default=behind.catalog.default)


@router.post(
    "/api/generate",
    tags=["jobs"],
    responses={200: examples.answer(examples.GENERATE)} | _BAD | _OTHER_BODY | _FULL_OR_DOWN,
)
async def generate(
    behind: Behind,
    request: Request,
    body: Annotated[GenerateBody, Body(examples=[examples.GENERATE_BODY])],
    idempotency_key: Annotated[
        str | None, Header(max_length=255, description="Repeat a request with its key, and there is still one job.")
    ] = None,
) -> GenerateAnswer:
    """Queue a job. It runs whether or not you wait; ask for its status by its id."""
    return await _submit(behind, request, body, idempotency_key)


@router.post(
    "/api/image/{image_id}/replay",
    tags=["jobs"],
    responses={200: examples.answer(examples.GENERATE), 400: _BAD[400]} | _UNKNOWN_IMAGE | _FULL_OR_DOWN,
)
async def replay(behind: Behind, request: Request, image_id: ImageId) -> GenerateAnswer:
    """Queue a job that makes an image again, with the parameters and the seed that are recorded of it."""
    made = (await behind.tracker.get_image(image_id)).metadata
    body = GenerateBody(
        model_id=made["model_id"],
        prompt=made["prompt"],
        negative_prompt=made["negative_prompt"],
        settings=SettingsBody(**made["settings"] | {"num_images": 1}),
    )
    return await _submit(behind, request, body, idempotency_key=None)


async def _submit(
    behind: Services, request: Request, body: GenerateBody, idempotency_key: str | None
) -> GenerateAnswer:
    client = request.client.host if request.client else ""
    planned = plan_job(behind.catalog, body, client)
    job = await behind.tracker.submit(new_job_id(client, idempotency_key), planned)
    if not asks_the_same(body, planned, job.request):
        raise IdempotencyConflictError
    return GenerateAnswer(
        job_id=job.id, status=job.state, num_images=planned.settings.num_images, message="The job is queued."
    )


@router.get(
    "/api/status/{job_id}", tags=["jobs"], responses={200: examples.answer(examples.STATUS)} | _UNKNOWN_JOB | _DOWN
)
async def job_status(behind: Behind, job_id: JobId) -> StatusAnswer:
    """A job: its state, its progress, its images."""
    return await _status(behind, job_id)


@router.get(
    "/api/jobs/{job_id}/preview",
    tags=["jobs"],
    response_class=Response,
    responses={200: {"content": {PREVIEW_TYPE: {}}, "description": "A small picture."}} | _NO_PREVIEW | _DOWN,
)
async def job_preview(behind: Behind, job_id: JobId) -> Response:
    """What the newest image of a running job is becoming: one pixel for each place of its latents."""
    preview = await behind.tracker.preview(job_id)
    if preview is None:
        await behind.tracker.get(job_id)
        raise NoPreviewError
    return Response(preview, media_type=PREVIEW_TYPE, headers={"Cache-Control": "no-store"})


@router.delete(
    "/api/jobs/{job_id}", tags=["jobs"], responses={200: examples.answer(examples.CANCELLED)} | _UNKNOWN_JOB | _DOWN
)
async def cancel_job(behind: Behind, job_id: JobId) -> StatusAnswer:
    """Cancel a job: at once while it waits, at its next step while it runs; a job that has ended stays as it is."""
    await behind.tracker.cancel(job_id)
    return await _status(behind, job_id)


async def _status(behind: Services, job_id: str) -> StatusAnswer:
    job = await behind.tracker.get(job_id)
    images = await behind.tracker.images_of(job_id) if job.state is JobState.COMPLETED else []
    position = await behind.tracker.queue_position(job_id) if job.state is JobState.PENDING else None
    has_preview = job.state is JobState.PROCESSING and await behind.tracker.has_preview(job_id)
    return StatusAnswer.of(job, images, position, f"/api/jobs/{job_id}/preview" if has_preview else None)


@router.get(
    "/api/queue",
    tags=["jobs"],
    responses={200: examples.answer(examples.QUEUE, detailed=examples.DETAILED_QUEUE)} | _BAD_QUERY | _DOWN,
)
async def queue(
    behind: Behind, detailed: Annotated[bool, Query(description="Also rates, and counts by model.")] = False
) -> DetailedQueueAnswer | QueueAnswer:
    """How many jobs are in which state."""
    if detailed:
        told = await behind.tracker.detailed_counts()
        return DetailedQueueAnswer(**told.model_dump(), total=told.total, queue_size=told.pending)
    counts = await behind.tracker.counts()
    return QueueAnswer(**counts.model_dump(exclude={"models"}), total=counts.total, queue_size=counts.pending)


@router.get("/api/image/{image_id}", tags=["images"], responses=_IMAGE_ANSWERS, response_class=Response)
@router.get("/api/get_image/{image_id}", tags=["images"], responses=_IMAGE_ANSWERS, response_class=Response)
async def image_bytes(
    behind: Behind,
    image_id: ImageId,
    byte_range: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The bytes of an image. They never change, so a browser may keep them."""
    image = await behind.tracker.get_image(image_id)
    headers = _lasting(image)
    if if_none_match is not None and _names(if_none_match, image.sha256):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    part = byte_range if if_range in (None, headers["ETag"]) else None
    return respond_with_bytes(await behind.storage.read(image.key), image.media_type, headers, part)


@router.head("/api/image/{image_id}", include_in_schema=False)
@router.head("/api/get_image/{image_id}", include_in_schema=False)
async def image_headers(behind: Behind, image_id: ImageId) -> Response:
    """What ``image_bytes`` answers, but for the bytes."""
    image = await behind.tracker.get_image(image_id)
    length = await behind.storage.size(image.key)
    headers = {**_lasting(image), "Accept-Ranges": "bytes", "Content-Length": str(length)}
    return Response(headers=headers, media_type=image.media_type)


def _lasting(image: Image) -> dict[str, str]:
    return {"ETag": f'"{image.sha256}"', "Cache-Control": "public, max-age=31536000, immutable"}


def _names(if_none_match: str, checksum: str) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(",")}
    return checksum in tags or "*" in tags


@router.get(
    "/api/image/{image_id}/metadata",
    tags=["images"],
    responses={200: examples.answer(examples.IMAGE_METADATA)} | _UNKNOWN_IMAGE | _DOWN,
)
async def image_metadata(behind: Behind, image_id: ImageId) -> dict[str, Any]:
    """The parameters that made an image; its own seed included."""
    return (await behind.tracker.get_image(image_id)).metadata


@router.delete(
    "/api/image/{image_id}",
    tags=["images"],
    responses={200: examples.answer(examples.DELETED)} | _UNKNOWN_IMAGE | _DOWN,
)
async def delete_image(behind: Behind, image_id: ImageId) -> DoneAnswer:
    """Delete an image for good."""
    image = await behind.tracker.get_image(image_id)
    # The record goes last: a deletion that fails halfway can be repeated.
    await behind.storage.delete(image.key)
    await behind.tracker.delete_image(image_id)
    return DoneAnswer(message="The image was deleted.")
