"""The progress of the caller's latest job and its interruption, in AUTOMATIC1111's form."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Query

from deployments.jobs.queue.jobs import JobFilter
from deployments.jobs.queue.views import JobView
from deployments.jobs.records.jobs import Job
from serve.api.automatic1111 import examples
from serve.api.automatic1111.bodies import ProgressAnswer, ProgressState
from serve.api.cyberimage.examples import answer
from serve.api.cyberimage.parameters import Behind
from serve.http.access import CHANGES, READS, Who
from serve.protection.identity import Identity
from serve.services.services import Services

_NOTHING = ProgressAnswer(
    progress=0.0,
    eta_relative=0.0,
    state=ProgressState(interrupted=False, job="", job_count=0, sampling_step=0, sampling_steps=0),
)

router = APIRouter(tags=["automatic1111"], responses=examples.REFUSALS | examples.DOWN)


@router.get(
    "/sdapi/v1/progress",
    dependencies=[READS],
    responses={200: answer(examples.PROGRESS), 422: examples.BAD[422]},
)
async def progress(
    behind: Behind,
    who: Who,
    skip_current_image: Annotated[bool, Query(description="Whether to leave the picture out.")] = False,
) -> ProgressAnswer:
    """How far the caller's latest job is; `state.job` is its id. By API key, else by address."""
    job = await _latest(behind, who)
    if job is None:
        return _NOTHING
    view = await behind.feed.view(job.id)
    if view.job.state.is_terminal:
        return _NOTHING
    return _progress(view, None if skip_current_image else await _picture(behind, who, view))


@router.post("/sdapi/v1/interrupt", dependencies=[CHANGES], responses={200: answer({})})
@router.post("/sdapi/v1/skip", dependencies=[CHANGES], responses={200: answer({})})
async def interrupt(behind: Behind, who: Who) -> dict[str, str]:
    """Cancel the caller's latest job, if it has not ended: at once while it waits, else at its next step."""
    job = await _latest(behind, who)
    if job is not None:
        await behind.tracker.jobs.cancel(job.id, who.name)
    return {}


async def _latest(behind: Services, who: Identity) -> Job | None:
    """Return the caller's latest job, unless it has ended."""
    newest = (await behind.tracker.jobs.page(JobFilter(client=who.name), limit=1)).jobs
    return next((job for job in newest if not job.state.is_terminal), None)


def _progress(view: JobView, picture: str | None) -> ProgressAnswer:
    job, settings = view.job, view.job.request.settings
    return ProgressAnswer(
        progress=round(job.step / job.total_steps, 3),
        eta_relative=round(view.eta_seconds or 0.0, 1),
        state=ProgressState(
            interrupted=job.cancel_requested,
            job=job.id,
            job_count=1,
            sampling_step=job.step // settings.num_images,
            sampling_steps=settings.denoising_steps,
        ),
        current_image=picture,
    )


async def _picture(behind: Services, who: Identity, view: JobView) -> str | None:
    if view.preview is None:
        return None
    settings = view.job.request.settings
    return base64.b64encode(await behind.picture_workers.enlarge(who.rate_key, view.preview, settings, "png")).decode()
