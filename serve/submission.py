"""Turns what a client asks for into a complete job request, within the limits of the model."""

from __future__ import annotations

import json
import secrets
from uuid import UUID, uuid4, uuid5

from deployments.catalog import Catalog, ModelEntry, UnknownModelError
from deployments.jobs.records import GenerationSettings, Job, JobRequest
from serve.api.cyberimage.bodies import GenerateBody, SettingsBody
from serve.api.errors import ApiError, InvalidRequestError
from serve.services import Services

_IDEMPOTENT_JOBS = UUID("3f0b8f0e-6d0a-5b8e-9d57-5d1f0a7c2b11")
_LARGEST_SEED = 2**63 - 1
_RANDOM_SEEDS = 2**32  # short enough to be noted and typed


class IdempotencyConflictError(ApiError):
    """The Idempotency-Key was used for another request; use a new key for a new request."""

    status = 409


async def submit_job(services: Services, body: GenerateBody, client: str, idempotency_key: str | None) -> Job:
    """Queue the job that a request asks for, or return the one that the same request with the same key made.

    Args:
        services: The parts behind the edge.
        body: What the client sent.
        client: Who asks.
        idempotency_key: Of the client's choice; None where every request is a new job.

    Raises:
        InvalidRequestError: See :func:`plan_job`.
        IdempotencyConflictError: The key belongs to another request.
        QueueFullError: Too many jobs wait.
    """
    planned = plan_job(services.catalog, body, client)
    job = await services.tracker.submit(new_job_id(client, idempotency_key), planned)
    if not asks_the_same(body, planned, job.request):
        raise IdempotencyConflictError
    return job


def plan_job(catalog: Catalog, body: GenerateBody, client: str) -> JobRequest:
    """Check a request against its model's limits and fill in every default.

    Args:
        catalog: The models.
        body: What the client sent.
        client: Who asks.

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
        settings=_complete(entry, body.settings or SettingsBody()),
        client=client,
    )


def new_job_id(client: str, idempotency_key: str | None) -> str:
    """The id for a job: random, or always the same for the same key of the same client.

    Args:
        client: Who asks.
        idempotency_key: As in the draft https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
    """
    if idempotency_key is None:
        return str(uuid4())
    return str(uuid5(_IDEMPOTENT_JOBS, json.dumps([client, idempotency_key])))


def asks_the_same(body: GenerateBody, planned: JobRequest, stored: JobRequest) -> bool:
    """Whether a stored request is what a body asks for; a seed that the body leaves open was drawn at random."""
    asked_seed = body.settings.seed if body.settings else None
    if asked_seed is None:
        settings = planned.settings.model_copy(update={"seed": stored.settings.seed})
        planned = planned.model_copy(update={"settings": settings})
    return planned == stored


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


def _complete(entry: ModelEntry, asked: SettingsBody) -> GenerationSettings:
    size = entry.size
    width = size.default_width if asked.width is None else asked.width
    height = size.default_height if asked.height is None else asked.height
    _check_side(entry, "width", width)
    _check_side(entry, "height", height)
    if width * height > size.max_pixels:
        raise InvalidRequestError(
            f"settings.width, settings.height: {width}x{height} is {width * height} pixels; "
            f"this model takes at most {size.max_pixels}."
        )
    return GenerationSettings(
        num_images=_within("num_images", 1 if asked.num_images is None else asked.num_images, 1, entry.max_images),
        num_inference_steps=_steps(entry, asked.num_inference_steps),
        guidance_scale=_guidance(entry, asked.guidance_scale),
        width=width,
        height=height,
        seed=_seed(asked.seed),
        max_sequence_length=_sequence_length(entry, asked.max_sequence_length),
        scheduler=_scheduler(entry, asked.scheduler),
        deterministic=bool(asked.deterministic),
        step_cache=_step_cache(entry, asked.step_cache),
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
