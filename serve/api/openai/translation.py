"""Translates OpenAI's requests to jobs, and jobs to OpenAI's answers."""

from __future__ import annotations

import re
from base64 import b64encode

from fastapi import Request

from deployments.jobs.queue.views import JobView
from deployments.jobs.records.jobs import Job
from deployments.parameters import GenerationSettings
from serve.api.cyberimage.bodies import image_path
from serve.api.openai.bodies import (
    NAMES,
    GenerationBody,
    ImageAnswer,
    ImagesAnswer,
    InputDetails,
    ModelAnswer,
    Usage,
)
from serve.api.openai.errors import ModelNotFoundError
from serve.errors import InvalidRequestError
from serve.services.services import Services
from serve.submission.request import GenerateBody
from serve.submission.settings import SettingsBody
from serve.submission.waiting import read_images

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_QUALITIES = {None: "auto", "standard": "medium", "hd": "high"}


def known_models(services: Services) -> dict[str, str]:
    """Return the ids of the catalog's models by all names that a request may use."""
    catalog = services.catalog
    aliases = {name: model_id or catalog.default for name, model_id in services.settings.clients.model_aliases.items()}
    return aliases | {model_id: model_id for model_id in catalog.models}


def model_id_of(services: Services, name: str | None) -> str:
    """Return the id of the model that a request names.

    Raises:
        ModelNotFoundError: No model has the name.
    """
    known = known_models(services)
    model_id = services.catalog.default if name is None else known.get(name)
    if model_id not in services.catalog.models:
        raise ModelNotFoundError(f'model: there is no model "{(name or "")[:64]}"; available: {", ".join(known)}.')
    return model_id


def model_answer(services: Services, name: str) -> ModelAnswer:
    """Describe a model under one of its names."""
    entry = services.catalog.get(model_id_of(services, name))
    owner = entry.repo.partition("/")[0] if entry.source == "huggingface" else "cyberimage"
    return ModelAnswer(id=name, created=0, owned_by=owner)


def job_body(
    services: Services, asked: GenerationBody, image: str | None = None, mask: str | None = None
) -> GenerateBody:
    """Return the job that a request asks for.

    Args:
        services: The parts behind the edge.
        asked: The request.
        image: Id of the picture to start from.
        mask: Id of the mask, whose white parts are repainted.

    Raises:
        ModelNotFoundError: There is no such model.
        InvalidRequestError: A field is not possible for the model.
    """
    if asked.background == "transparent":
        raise InvalidRequestError("background: transparent is not possible; opaque or auto would be right.")
    return GenerateBody(
        model_id=model_id_of(services, asked.model),
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        image=image,
        mask=mask,
        settings=_settings_of(asked),
    )


async def images_answer(services: Services, request: Request, asked: GenerationBody, view: JobView) -> ImagesAnswer:
    """Return the images of a completed job.

    Raises:
        StorageError: One cannot be read.
    """
    if _wants_urls(asked):
        links = [await services.protection.links.link_to(image_path(image.id)) for image in view.images]
        data = [ImageAnswer(url=link.seen_from(request)) for link in links]
    else:
        data = [ImageAnswer(b64_json=in_base64(content)) for content in await read_images(services, view)]
    return ImagesAnswer(
        created=seconds_of(view.job),
        data=data,
        output_format=view.job.request.settings.output_format,
        size=size_of(view.job.request.settings),
        quality=quality_of(asked),
        usage=usage_of(view.job),
    )


def in_base64(content: bytes) -> str:
    """Encode bytes in Base64."""
    return b64encode(content).decode()


def size_of(settings: GenerationSettings) -> str:
    """Return the size of a job's images as ``WIDTHxHEIGHT``."""
    return f"{settings.width}x{settings.height}"


def quality_of(asked: GenerationBody) -> str:
    """Return OpenAI's name of a quality."""
    return _QUALITIES.get(asked.quality, asked.quality or "auto")


def seconds_of(job: Job) -> int:
    """Return when a job completed, or else was created, in seconds since 1970."""
    return int((job.completed_at or job.created_at).timestamp())


def usage_of(job: Job) -> Usage:
    """Return the usage of a job: words of its prompts for input tokens, denoising steps for output tokens."""
    words = len(job.request.prompt.split()) + len(job.request.negative_prompt.split())
    steps = job.total_steps
    return Usage(
        input_tokens=words,
        input_tokens_details=InputDetails(text_tokens=words, image_tokens=0),
        output_tokens=steps,
        total_tokens=words + steps,
    )


def _settings_of(asked: GenerationBody) -> SettingsBody:
    width, height = _sides(asked.size)
    changed = {"width": width, "height": height, "quality": _file_quality(asked)}
    return SettingsBody(**({name: getattr(asked, theirs, None) for name, theirs in NAMES.items()} | changed))


def _sides(size: str | None) -> tuple[int | None, int | None]:
    if size in (None, "auto"):
        return None, None
    found = _SIZE.fullmatch(size or "")
    if found is None:
        raise InvalidRequestError(f'size: "{(size or "")[:40]}" is not a size; WIDTHxHEIGHT or auto would be right.')
    return int(found[1]), int(found[2])


def _file_quality(asked: GenerationBody) -> int | None:
    """Return the quality of the file. PNG takes none, but clients send 100, the default."""
    if asked.output_compression is None or (asked.output_format in (None, "png") and asked.output_compression == 100):
        return None
    return max(1, asked.output_compression)


def _wants_urls(asked: GenerationBody) -> bool:
    if asked.response_format is None:
        return (asked.model or "").startswith("dall-e-")
    return asked.response_format == "url"
