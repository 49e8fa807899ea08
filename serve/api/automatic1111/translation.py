"""Translates AUTOMATIC1111's requests to jobs, and jobs to its answers."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from deployments.jobs.queue.views import JobView
from deployments.storage.metadata.infotext import parameters_text
from deployments.storage.picture import DamagedPictureError
from deployments.version import package_version
from serve.api.automatic1111.bodies import ImagesAnswer
from serve.api.automatic1111.requests import TextToImageBody, settings_of, told_of
from serve.api.automatic1111.samplers import sampler_of
from serve.errors import InvalidRequestError
from serve.protection.identity import Identity
from serve.services.services import Services
from serve.submission.request import GenerateBody
from serve.submission.waiting import read_images

_UNAVAILABLE = (
    ("enable_hr", "a second pass", "false"),
    ("tiling", "tiling", "false"),
    ("restore_faces", "restoring faces", "false"),
    ("subseed_strength", "variations of a seed", "0"),
    ("script_name", "scripts", "null"),
    ("alwayson_scripts", "extensions", "{}"),
    ("resize_mode", "other ways to resize than stretching", "0"),
)


async def chosen_model(services: Services, who: Identity) -> str:
    """Return the id of the model that a client has chosen; the catalog's default where it has chosen none."""
    chosen = await services.tracker.chosen_model(who.name)
    return chosen if chosen in services.catalog.models else services.catalog.default


def known_model(services: Services, title: str) -> str:
    """Return the id of a model by its title.

    Raises:
        InvalidRequestError: There is no such model.
    """
    known = services.catalog.models
    if title not in known:
        raise InvalidRequestError(
            f'sd_model_checkpoint: there is no model "{title[:64]}"; available: {", ".join(known)}.'
        )
    return title


async def job_body(services: Services, who: Identity, asked: TextToImageBody) -> GenerateBody:
    """Return the job that a request asks for, without its pictures.

    Raises:
        InvalidRequestError: A field is not possible for the model.
        SamplerNotFoundError: The model does not have the sampler.
    """
    for field, what, right in _UNAVAILABLE:
        if getattr(asked, field, None):
            raise InvalidRequestError(f"{field}: {what} is not available; {right} would be right.")
    title = asked.override_settings.sd_model_checkpoint if asked.override_settings else None
    model_id = await chosen_model(services, who) if title is None else known_model(services, title)
    return GenerateBody(
        model_id=model_id,
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        settings=settings_of(services.catalog.get(model_id), asked),
    )


def picture_in(field: str, text: str) -> bytes:
    """Return the bytes of a file in Base64, with or without ``data:...;base64,`` before it.

    Raises:
        DamagedPictureError: It is not Base64.
    """
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise DamagedPictureError(f"{field}: it is not Base64; send a PNG, JPEG or WebP file in Base64.") from None


async def images_answer(services: Services, asked: TextToImageBody, view: JobView) -> ImagesAnswer:
    """Return the images of a completed job.

    Raises:
        StorageError: One cannot be read.
    """
    files = [] if asked.send_images is False else await read_images(services, view)
    parameters = asked.model_dump(exclude_unset=True, exclude={"init_images", "mask"})
    images = [base64.b64encode(content).decode() for content in files]
    return ImagesAnswer(images=images, parameters=parameters, info=json.dumps(_info(services, view)))


def _info(services: Services, view: JobView) -> dict[str, Any]:
    """As ``Processed.js`` in AUTOMATIC1111's ``modules/processing.py``, with the job's id."""
    request, settings = view.job.request, view.job.request.settings
    size = (settings.width, settings.height)
    seeds = [settings.seed_of(index) for index in range(settings.num_images)]
    return {
        **told_of(settings),
        "job_id": view.job.id,
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * len(seeds),
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt] * len(seeds),
        "all_seeds": seeds,
        "subseed": -1,
        "all_subseeds": [-1] * len(seeds),
        "subseed_strength": 0,
        "sampler_name": sampler_of(services.catalog.get(request.model_id), settings.scheduler),
        "sd_model_name": request.model_id,
        "sd_model_hash": None,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [parameters_text(image.metadata, size) for image in view.images],
        "styles": [],
        "job_timestamp": f"{view.job.created_at:%Y%m%d%H%M%S}",
        "version": package_version(),
    }
