"""From the body of a request to a complete job request, within the limits of its model."""

from __future__ import annotations

from deployments.catalog.catalog import Catalog, UnknownModelError
from deployments.catalog.entry import ModelEntry
from deployments.jobs.records.jobs import JobRequest, PriorityClass
from deployments.parameters import GenerationSettings
from serve.errors import InvalidRequestError
from serve.submission.pictures import Pictures, output_size, picture_settings
from serve.submission.request import GenerateBody
from serve.submission.settings import completed, within

_LONGEST_EXPIRY_SECONDS = 365 * 24 * 3600


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


def _expires_in(asked: int | None) -> int | None:
    if asked is not None and not 1 <= asked <= _LONGEST_EXPIRY_SECONDS:
        raise InvalidRequestError(f"expires_in: {asked} is not possible; it is 1 to {_LONGEST_EXPIRY_SECONDS} seconds.")
    return asked


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
    width, height = output_size(entry, body.asked, pictures)
    _check_size(entry, width, height)
    settings = completed(entry, body.asked)
    steps = settings["num_inference_steps"]
    return GenerationSettings(
        width=width,
        height=height,
        **settings,
        **picture_settings(catalog, body, pictures, (width, height), steps),
    )


def _check_size(entry: ModelEntry, width: int, height: int) -> None:
    _check_side(entry, "width", width)
    _check_side(entry, "height", height)
    if width * height > entry.size.max_pixels:
        raise InvalidRequestError(
            f"settings.width, settings.height: {width}x{height} is {width * height} pixels; "
            f"this model takes at most {entry.size.max_pixels}."
        )


def _check_side(entry: ModelEntry, name: str, pixels: int) -> None:
    size = entry.size
    within(name, pixels, size.minimum, size.maximum)
    if pixels % size.multiple_of:
        smallest, largest = -(-size.minimum // size.multiple_of), size.maximum // size.multiple_of
        nearest = min(max(round(pixels / size.multiple_of), smallest), largest) * size.multiple_of
        raise InvalidRequestError(
            f"settings.{name}: {pixels} is not a multiple of {size.multiple_of}; {nearest} would be right."
        )
