"""Jobs: submit one, follow it, cancel it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Header, Request, Response

from deployments.jobs.records import JobState
from deployments.previews import MEDIA_TYPE as PREVIEW_TYPE
from serve.api.cyberimage import answers, examples
from serve.api.cyberimage.bodies import GenerateAnswer, GenerateBody, SettingsBody, StatusAnswer
from serve.api.cyberimage.parameters import Behind, ImageId, JobId
from serve.api.errors import ApiError
from serve.services import Services
from serve.submission import submit_job


class NoPreviewError(ApiError):
    """There is no preview of this job: it has not taken a step yet, or ended some time ago."""

    status = 404


_NO_PREVIEW: answers.Responses = {
    404: examples.error("There is no such job, or no preview of it.", str(NoPreviewError()))
}

router = APIRouter()


@router.post(
    "/api/generate",
    tags=["jobs"],
    responses={200: examples.answer(examples.GENERATE)} | answers.BAD | answers.OTHER_BODY | answers.FULL_OR_DOWN,
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
    responses={200: examples.answer(examples.GENERATE), 400: answers.BAD[400]}
    | answers.UNKNOWN_IMAGE
    | answers.FULL_OR_DOWN,
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
    job = await submit_job(behind, body, request.client.host if request.client else "", idempotency_key)
    return GenerateAnswer(
        job_id=job.id, status=job.state, num_images=job.request.settings.num_images, message="The job is queued."
    )


@router.get(
    "/api/status/{job_id}",
    tags=["jobs"],
    responses={200: examples.answer(examples.STATUS)} | answers.UNKNOWN_JOB | answers.DOWN,
)
async def job_status(behind: Behind, job_id: JobId) -> StatusAnswer:
    """A job: its state, its progress, its images."""
    return await _status(behind, job_id)


@router.get(
    "/api/jobs/{job_id}/preview",
    tags=["jobs"],
    response_class=Response,
    responses={200: {"content": {PREVIEW_TYPE: {}}, "description": "A small picture."}} | _NO_PREVIEW | answers.DOWN,
)
async def job_preview(behind: Behind, job_id: JobId) -> Response:
    """What the newest image of a running job is becoming: one pixel for each place of its latents."""
    preview = await behind.tracker.preview(job_id)
    if preview is None:
        await behind.tracker.get(job_id)
        raise NoPreviewError
    return Response(preview, media_type=PREVIEW_TYPE, headers={"Cache-Control": "no-store"})


@router.delete(
    "/api/jobs/{job_id}",
    tags=["jobs"],
    responses={200: examples.answer(examples.CANCELLED)} | answers.UNKNOWN_JOB | answers.DOWN,
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
