"""Jobs: submit one, follow it, cancel it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Response, status

from deployments.parameters import PICTURES
from deployments.tracker.previews import MEDIA_TYPE as PREVIEW_TYPE
from serve.api.cyberimage import answers, examples
from serve.api.cyberimage.bodies import GenerateAnswer, StatusAnswer
from serve.api.cyberimage.parameters import Behind, Caller, JobId, OwnImage, OwnJobId
from serve.errors import ApiError
from serve.http.access import CHANGES, READS, SUBMITS, Who
from serve.http.conditional import tags_of
from serve.protection.identity import require_own_job
from serve.submission.request import GenerateBody
from serve.submission.settings import SettingsBody
from serve.submission.submit import submit_job


class NoPreviewError(ApiError):
    """There is no preview of this job: it has not taken a step yet, or ended some time ago."""

    status = 404


_NO_PREVIEW: answers.Responses = {
    404: examples.error("There is no such job, or no preview of it.", str(NoPreviewError()))
}

router = APIRouter()


@router.post(
    "/api/generate",
    dependencies=[SUBMITS],
    tags=["jobs"],
    responses={200: examples.answer(examples.GENERATE)}
    | answers.BAD
    | answers.OTHER_BODY
    | answers.TOO_MANY
    | answers.FULL_OR_DOWN,
)
async def generate(
    behind: Behind,
    who: Who,
    body: Annotated[GenerateBody, Body(examples=[examples.GENERATE_BODY])],
    idempotency_key: Annotated[
        str | None, Header(max_length=255, description="Repeat a request with its key, and there is still one job.")
    ] = None,
) -> GenerateAnswer:
    """Queue a job. It runs whether or not you wait; ask for its status by its id."""
    return GenerateAnswer.of(await submit_job(behind, body, who, idempotency_key))


@router.post(
    "/api/image/{image_id}/replay",
    dependencies=[SUBMITS],
    tags=["jobs"],
    responses={200: examples.answer(examples.GENERATE), 400: answers.BAD[400]}
    | answers.UNKNOWN_IMAGE
    | answers.TOO_MANY
    | answers.FULL_OR_DOWN,
)
async def replay(behind: Behind, who: Who, image: OwnImage) -> GenerateAnswer:
    """Queue a job that makes an image again, with the parameters and the seed that are recorded of it."""
    made = image.metadata
    settings = made["settings"] | {"num_images": 1}
    pictures = {name: settings.pop(name, None) for name in PICTURES}
    body = GenerateBody(
        model_id=made["model_id"],
        prompt=made["prompt"],
        negative_prompt=made["negative_prompt"],
        settings=SettingsBody(**settings),
        **pictures,
    )
    return GenerateAnswer.of(await submit_job(behind, body, who, idempotency_key=None))


@router.get(
    "/api/status/{job_id}",
    dependencies=[READS],
    tags=["jobs"],
    response_model=StatusAnswer,
    responses={200: examples.answer(examples.STATUS), 304: {"description": "The job is as you know it."}}
    | answers.BAD_QUERY
    | answers.UNKNOWN_JOB
    | answers.DOWN,
)
async def job_status(  # noqa: PLR0913, PLR0917 - each is a parameter of the route
    behind: Behind,
    who: Who,
    job_id: JobId,
    response: Response,
    wait: Annotated[
        float, Query(ge=0, le=60, description="Seconds to wait for a change since `If-None-Match`, or from now on.")
    ] = 0,
    if_none_match: Annotated[str | None, Header(description="The `ETag` of the answer that you have.")] = None,
) -> StatusAnswer | Response:
    """A job: its state, its progress, its images. A job that has ended is answered at once."""
    seen = tags_of(if_none_match)
    view = await (behind.feed.changed_view(job_id, seen, wait) if wait else behind.tracker.view(job_id))
    require_own_job(who, view.job)
    headers = {"ETag": f'W/"{view.job.version}"', "Cache-Control": "no-store"}
    if view.job.version in seen:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    response.headers.update(headers)
    return StatusAnswer.of(view)


@router.get(
    "/api/jobs/{job_id}/preview",
    dependencies=[READS],
    tags=["jobs"],
    response_class=Response,
    responses={200: {"content": {PREVIEW_TYPE: {}}, "description": "A small picture."}} | _NO_PREVIEW | answers.DOWN,
)
async def job_preview(behind: Behind, job_id: OwnJobId) -> Response:
    """What the newest image of a running job is becoming: one pixel for each place of its latents."""
    preview = await behind.tracker.preview(job_id)
    if preview is None:
        await behind.tracker.jobs.get(job_id)
        raise NoPreviewError
    return Response(preview, media_type=PREVIEW_TYPE, headers={"Cache-Control": "no-store"})


@router.delete(
    "/api/jobs/{job_id}",
    dependencies=[CHANGES],
    tags=["jobs"],
    responses={200: examples.answer(examples.CANCELLED)} | answers.UNKNOWN_JOB | answers.DOWN,
)
async def cancel_job(behind: Behind, caller: Caller, job_id: OwnJobId) -> StatusAnswer:
    """Cancel a job: at once while it waits, at its next step while it runs; a job that has ended stays as it is."""
    await behind.tracker.jobs.cancel(job_id, caller)
    return StatusAnswer.of(await behind.tracker.view(job_id))
