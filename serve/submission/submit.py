"""Submits jobs: one, a batch, or one that is tried again."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from uuid import UUID, uuid4, uuid5

from deployments.jobs.records.jobs import Job, JobRequest
from deployments.settings.service import WebhookSettings
from deployments.telemetry.logs import about
from deployments.telemetry.metrics import SUBMITTED_JOBS
from deployments.telemetry.traces import submit_spans
from deployments.tracker.webhook_urls import WebhookRefusedError, read_url
from serve.errors import ApiError, InvalidRequestError
from serve.protection.identity import Identity, within_key
from serve.services.services import Services
from serve.submission.pictures import find_pictures
from serve.submission.plan import plan_job
from serve.submission.request import GenerateBody

logger = logging.getLogger(__name__)

_IDEMPOTENT_JOBS = UUID("3f0b8f0e-6d0a-5b8e-9d57-5d1f0a7c2b11")


class IdempotencyConflictError(ApiError):
    """The Idempotency-Key was used for another request; use a new key for a new request."""

    status = 409


async def submit_job(services: Services, body: GenerateBody, who: Identity, idempotency_key: str | None) -> Job:
    """Queue the job that a request asks for, or return the one that the same request with the same key made.

    Args:
        services: The parts behind the edge.
        body: What the client sent.
        who: Who asks.
        idempotency_key: Of the client's choice; None where every request is a new job.

    Raises:
        InvalidRequestError: See :func:`plan_job`; or the webhook's URL may not be called.
        IdempotencyConflictError: The key belongs to another request.
        NotAllowedError: The caller's API key is not for this.
        QueueFullError: Too many jobs wait.
        DailyLimitError: The caller's API key has used up its images of today.
    """
    planned = await _plan(services, body, who)
    job_id = new_job_id(who.name, idempotency_key)
    with about(job_id=job_id), submit_spans({job_id: planned.model_id}):
        job = await services.intake.submit(job_id, planned, who.limits)
    if not asks_the_same(body, planned, job.request):
        raise IdempotencyConflictError
    _note_submitted(job)
    return job


async def submit_batch(
    services: Services, bodies: Sequence[GenerateBody], who: Identity, idempotency_key: str | None
) -> list[Job]:
    """Queue the jobs of a batch, all or none, or return those that the same batch with the same key made.

    Args:
        services: The parts behind the edge.
        bodies: What the client sent.
        who: Who asks.
        idempotency_key: Of the client's choice; None where every request is a new batch.

    Raises:
        InvalidRequestError: Names the job by its place, and what is wrong with it.
        IdempotencyConflictError: The key belongs to another request.
        QueueFullError: There is no room for all of them.
    """
    planned = [await _plan_of_batch(services, bodies, index, who) for index in range(len(bodies))]
    wanted = {new_job_id(who.name, idempotency_key, index): request for index, request in enumerate(planned)}
    with submit_spans({job_id: request.model_id for job_id, request in wanted.items()}):
        jobs = await services.tracker.submit_all(wanted, who.limits)
    found = zip(bodies, planned, jobs, strict=False)
    if len(jobs) != len(bodies) or not all(asks_the_same(body, wants, job.request) for body, wants, job in found):
        raise IdempotencyConflictError
    for job in jobs:
        _note_submitted(job)
    return jobs


async def retry_job(services: Services, job_id: str, who: Identity) -> Job:
    """Queue what a failed or cancelled job asked for once more, as a new job that names the old one.

    Args:
        services: The parts behind the edge.
        job_id: Of the old one.
        who: Who asks.

    Raises:
        UnknownJobError: There is none with this id.
        JobStateError: It has not failed and was not cancelled.
        NotAllowedError: The caller's API key is not for this.
        QueueFullError: Too many jobs wait.
        DailyLimitError: The caller's API key has used up its images of today.
    """
    asked = (await services.tracker.jobs.get(job_id)).request
    within_key(who, asked, asked.priority)
    new_id = new_job_id(who.name, None)
    with about(job_id=new_id), submit_spans({new_id: asked.model_id}):
        job = await services.tracker.retry(job_id, new_id, who.name, who.limits)
    _note_submitted(job)
    return job


def new_job_id(client: str, idempotency_key: str | None, index: int = 0) -> str:
    """The id for a job: random, or always the same for the same key of the same client.

    Args:
        client: Who asks.
        index: The job's place in its batch, from 0.
        idempotency_key: As in the draft https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
    """
    if idempotency_key is None:
        return str(uuid4())
    named = [client, idempotency_key, index] if index else [client, idempotency_key]
    return str(uuid5(_IDEMPOTENT_JOBS, json.dumps(named)))


def asks_the_same(body: GenerateBody, planned: JobRequest, stored: JobRequest) -> bool:
    """Whether a stored request is what a body asks for; a seed that the body leaves open was drawn at random."""
    if body.asked.seed is None:
        settings = planned.settings.model_copy(update={"seed": stored.settings.seed})
        planned = planned.model_copy(update={"settings": settings})
    return planned == stored


def _note_submitted(job: Job) -> None:
    SUBMITTED_JOBS.add(model=job.request.model_id)
    with about(job_id=job.id, model=job.request.model_id):
        logger.info("A job was submitted")


async def _plan(services: Services, body: GenerateBody, who: Identity) -> JobRequest:
    _check_webhook(services.settings.webhooks, body.webhook_url)
    pictures = await find_pictures(services.tracker, body, who)
    planned = within_key(who, plan_job(services.catalog, body, who.name, pictures), body.priority)
    if planned.expires_in is None:
        return planned.model_copy(update={"expires_in": services.settings.queue.expires_in})
    return planned


async def _plan_of_batch(services: Services, bodies: Sequence[GenerateBody], index: int, who: Identity) -> JobRequest:
    try:
        planned = await _plan(services, bodies[index], who)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"jobs.{index}: {error}") from None
    return planned.model_copy(update={"batch_size": len(bodies)})


def _check_webhook(settings: WebhookSettings, url: str | None) -> None:
    try:
        if url is not None:
            read_url(url, settings)
    except WebhookRefusedError as error:
        raise InvalidRequestError(f"webhook_url: {error}") from None
