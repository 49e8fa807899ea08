"""Pause, resume, reset and clear queues; the audit record."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from deployments.catalog.catalog import UnknownModelError
from deployments.jobs.records.jobs import JobState
from deployments.upkeep.retention import clear_jobs
from serve.api.cyberimage import answers, control_examples, examples
from serve.api.cyberimage.bodies import DoneAnswer
from serve.api.cyberimage.control_bodies import AuditAnswer, AuditedAction, ClearableState, ClearAnswer, ResetAnswer
from serve.api.cyberimage.parameters import Behind, Caller
from serve.http.access import ADMINISTERS
from serve.submission.fields import Text

MOST_CLEARED = 1000

router = APIRouter()


@router.post(
    "/api/queue/{model_id}/pause",
    dependencies=[ADMINISTERS],
    tags=["admin"],
    responses={200: examples.answer(control_examples.PAUSED)} | control_examples.UNKNOWN_MODEL | answers.DOWN,
)
async def pause_queue(behind: Behind, caller: Caller, model_id: Text) -> DoneAnswer:
    """Start no more jobs of a model. Those that run go on; those that wait keep waiting, and new ones are taken."""
    known = behind.catalog.models
    if model_id not in known:
        raise UnknownModelError(f'There is no model "{model_id[:64]}"; available: {", ".join(known)}.')
    await behind.tracker.administration.pause(model_id, caller)
    return DoneAnswer(message=f"The queue of {model_id} is paused.")


@router.post(
    "/api/queue/{model_id}/resume",
    dependencies=[ADMINISTERS],
    tags=["admin"],
    responses={200: examples.answer(control_examples.RESUMED), **answers.DOWN},
)
async def resume_queue(behind: Behind, caller: Caller, model_id: Text) -> DoneAnswer:
    """Start jobs of a model again. One that is no longer in the catalog can be resumed too."""
    await behind.tracker.administration.resume(model_id, caller)
    return DoneAnswer(message=f"The queue of {model_id} goes on.")


@router.post(
    "/api/reset_queue",
    dependencies=[ADMINISTERS],
    tags=["admin"],
    responses={200: examples.answer(control_examples.RESET), **answers.DOWN},
)
async def reset_queue(behind: Behind, caller: Caller) -> ResetAnswer:
    """Put jobs back whose replica no longer reports, at once; the tracker does so too, when it looks next."""
    count = len(await behind.tracker.reset(caller))
    done = "1 stalled job was reset." if count == 1 else f"{count} stalled jobs were reset."
    return ResetAnswer(reset_count=count, message=done)


@router.delete(
    "/api/jobs",
    dependencies=[ADMINISTERS],
    tags=["admin"],
    responses={200: examples.answer(control_examples.CLEAR)} | control_examples.BAD_LIST | answers.DOWN,
)
async def clear(
    behind: Behind, caller: Caller, state: Annotated[ClearableState, Query(description="Of the jobs.")]
) -> ClearAnswer:
    """Cancel all pending jobs, or forget all jobs that ended in a state, with their images: 1000 in one request."""
    cleared = await clear_jobs(behind.tracker, behind.storage, JobState(state), MOST_CLEARED, caller)
    remaining = getattr(await behind.tracker.counts.by_state(), state)
    what = f"1 {state} job is" if cleared == 1 else f"{cleared} {state} jobs are"
    return ClearAnswer(cleared=cleared, remaining=remaining, message=f"{what} cleared.")


@router.get(
    "/api/audit",
    dependencies=[ADMINISTERS],
    tags=["admin"],
    responses={200: examples.answer(control_examples.AUDIT)} | control_examples.BAD_LIST | answers.DOWN,
)
async def audit(
    behind: Behind,
    limit: Annotated[int, Query(ge=1, le=100, description="Actions on a page.")] = 50,
    cursor: Annotated[Text | None, Query(description="`next_cursor` of the page before.")] = None,
) -> AuditAnswer:
    """Who cancelled, retried, reordered, paused, resumed, reset, cleared or deleted what; newest first."""
    page = await behind.tracker.audit.page(limit, cursor)
    return AuditAnswer(entries=[AuditedAction.of(entry) for entry in page.entries], next_cursor=page.next_cursor)
