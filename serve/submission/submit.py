"""Turns what a client asks for into a complete job request, within the limits of the model."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from uuid import UUID, uuid4, uuid5

from deployments.catalog.catalog import Catalog, UnknownModelError
from deployments.catalog.entry import ModelEntry
from deployments.jobs.records.jobs import Job, JobRequest, PriorityClass
from deployments.parameters import GenerationSettings
from deployments.settings.service import WebhookSettings
from deployments.storage.formats import DEFAULT_FORMAT, FORMATS, available_formats
from deployments.telemetry.logs import about
from deployments.telemetry.metrics import SUBMITTED_JOBS
from deployments.telemetry.traces import submit_spans
from deployments.tracker.webhook_urls import WebhookRefusedError, read_url
from serve.errors import ApiError, InvalidRequestError
from serve.protection.identity import Identity, within_key
from serve.services.services import Services
from serve.submission.input_checks import Pictures, find_pictures, input_settings, output_size
from serve.submission.request import GenerateBody, SettingsBody

logger = logging.getLogger(__name__)

_IDEMPOTENT_JOBS = UUID("3f0b8f0e-6d0a-5b8e-9d57-5d1f0a7c2b11")
_LARGEST_SEED = 2**63 - 1
_LONGEST_EXPIRY_SECONDS = 365 * 24 * 3600
_RANDOM_SEEDS = 2**32  # short enough to be noted and typed


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


def plan_job(catalog: Catalog, body: GenerateBody, client: str, pictures: Pictures) -> JobRequest:
    """Check a request against its model's limits and fill in every default.

    Args:
        catalog: The models.
        body: What the client sent.
        client: Who asks.
        pictures: Those that the request names, as :func:`find_pictures` found them.

    Raises:
        InvalidRequestError: Names the field, the value, the limit and what would be right.
    """
    entry = _entry(catalog, body.model_id)
    negative_prompt = body.negative_prompt or ""
    _check_length(entry, "prompt", body.prompt)
    _check_length(entry, "negative_prompt", negative_prompt)
    if not body.prompt.strip():
        raise InvalidRequestError("prompt: it is empty; say what the image should show.")
    return JobRequest(
        model_id=body.model_id,
        prompt=body.prompt,
        negative_prompt=negative_prompt,
        settings=_complete(catalog, entry, body, pictures),
        client=client,
        priority=body.priority or PriorityClass.NORMAL,
        expires_in=_expires_in(body.expires_in),
        webhook_url=body.webhook_url,
    )


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
    asked_seed = body.settings.seed if body.settings else None
    if asked_seed is None:
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


def _expires_in(asked: int | None) -> int | None:
    if asked is not None and not 1 <= asked <= _LONGEST_EXPIRY_SECONDS:
        raise InvalidRequestError(f"expires_in: {asked} is not possible; it is 1 to {_LONGEST_EXPIRY_SECONDS} seconds.")
    return asked


def _check_webhook(settings: WebhookSettings, url: str | None) -> None:
    try:
        if url is not None:
            read_url(url, settings)
    except WebhookRefusedError as error:
        raise InvalidRequestError(f"webhook_url: {error}") from None


def _entry(catalog: Catalog, model_id: str) -> ModelEntry:
    try:
        return catalog.get(model_id)
    except UnknownModelError:
        raise InvalidRequestError(
            f'model_id: there is no model "{model_id[:64]}"; available: {", ".join(catalog.models)}.'
        ) from None


def _check_length(entry: ModelEntry, name: str, text: str) -> None:
    limit = entry.max_prompt_characters
    if len(text) > limit:
        raise InvalidRequestError(f"{name}: {len(text)} characters are too many; this model takes at most {limit}.")


def _complete(catalog: Catalog, entry: ModelEntry, body: GenerateBody, pictures: Pictures) -> GenerationSettings:
    size, asked = entry.size, body.settings or SettingsBody()
    width, height = output_size(entry, asked, pictures)
    _check_side(entry, "width", width)
    _check_side(entry, "height", height)
    if width * height > size.max_pixels:
        raise InvalidRequestError(
            f"settings.width, settings.height: {width}x{height} is {width * height} pixels; "
            f"this model takes at most {size.max_pixels}."
        )
    steps = _steps(entry, asked.num_inference_steps)
    return GenerationSettings(
        num_images=_within("num_images", 1 if asked.num_images is None else asked.num_images, 1, entry.max_images),
        num_inference_steps=steps,
        guidance_scale=_guidance(entry, asked.guidance_scale),
        width=width,
        height=height,
        seed=_seed(asked.seed),
        max_sequence_length=_sequence_length(entry, asked.max_sequence_length),
        scheduler=_scheduler(entry, asked.scheduler),
        deterministic=bool(asked.deterministic),
        step_cache=_step_cache(entry, asked.step_cache),
        output_format=_output_format(asked.output_format),
        quality=_quality(_output_format(asked.output_format), asked.quality),
        metadata=asked.metadata is not False,
        **input_settings(catalog, body, pictures, (width, height), steps),
    )


def _steps(entry: ModelEntry, asked: int | None) -> int:
    steps = entry.steps
    if steps.fixed is not None and asked not in (None, steps.fixed):
        raise InvalidRequestError(
            f"settings.num_inference_steps: {asked} is not possible; this model takes only {steps.fixed}."
        )
    return _within("num_inference_steps", steps.default if asked is None else asked, steps.minimum, steps.maximum)


def _guidance(entry: ModelEntry, asked: float | None) -> float:
    guidance = entry.guidance
    scale = guidance.default if asked is None else asked
    if not guidance.minimum <= scale <= guidance.maximum:
        raise InvalidRequestError(
            f"settings.guidance_scale: {scale:g} is not possible; "
            f"this model takes {guidance.minimum:g} to {guidance.maximum:g}."
        )
    return scale


def _seed(asked: int | None) -> int:
    return secrets.randbelow(_RANDOM_SEEDS) if asked is None else _within("seed", asked, 0, _LARGEST_SEED)


def _sequence_length(entry: ModelEntry, asked: int | None) -> int | None:
    limit = entry.max_sequence_length
    if asked is None:
        return limit
    if limit is None:
        raise InvalidRequestError("settings.max_sequence_length: this model does not take it; leave it out.")
    return _within("max_sequence_length", asked, 1, limit)


def _scheduler(entry: ModelEntry, asked: str | None) -> str | None:
    if asked is None or asked in entry.schedulers:
        return asked
    choice = f"it can use: {', '.join(entry.schedulers)}" if entry.schedulers else "it has only its own; leave it out"
    raise InvalidRequestError(f'settings.scheduler: this model cannot use "{asked[:64]}"; {choice}.')


def _step_cache(entry: ModelEntry, asked: float | None) -> float:
    limits = entry.step_cache
    threshold = limits.default if asked is None else asked
    if threshold and not limits.maximum:
        raise InvalidRequestError("settings.step_cache: this model has none; leave it out.")
    if not 0 <= threshold <= limits.maximum:
        raise InvalidRequestError(
            f"settings.step_cache: {threshold:g} is not possible; this model takes 0 to {limits.maximum:g}."
        )
    return threshold


def _output_format(asked: str | None) -> str:
    available = available_formats()
    if asked is None or asked in available:
        return asked or DEFAULT_FORMAT
    raise InvalidRequestError(
        f'settings.output_format: "{asked[:64]}" is not possible; available: {", ".join(available)}.'
    )


def _quality(output_format: str, asked: int | None) -> int | None:
    if asked is None:
        return None
    if FORMATS[output_format].quality is None:
        raise InvalidRequestError(
            f"settings.quality: {output_format} loses nothing and takes none; leave it out, or choose another "
            "settings.output_format."
        )
    if not 1 <= asked <= 100:
        raise InvalidRequestError(f"settings.quality: {asked} is not possible; it is 1 to 100.")
    return asked


def _check_side(entry: ModelEntry, name: str, pixels: int) -> None:
    size = entry.size
    _within(name, pixels, size.minimum, size.maximum)
    if pixels % size.multiple_of:
        smallest, largest = -(-size.minimum // size.multiple_of), size.maximum // size.multiple_of
        nearest = min(max(round(pixels / size.multiple_of), smallest), largest) * size.multiple_of
        raise InvalidRequestError(
            f"settings.{name}: {pixels} is not a multiple of {size.multiple_of}; {nearest} would be right."
        )


def _within(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        reason = f"this model takes only {low}" if low == high else f"this model takes {low} to {high}"
        raise InvalidRequestError(f"settings.{name}: {value} is not possible; {reason}.")
    return value
