"""Examples of the AUTOMATIC1111 dialect and its errors, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from deployments.jobs.records.exceptions import QueueFullError
from serve.api.automatic1111.bodies import ErrorBody
from serve.api.automatic1111.errors import error_body
from serve.api.automatic1111.samplers import SamplerNotFoundError
from serve.api.cyberimage.examples import answer
from serve.errors import InvalidRequestError
from serve.http.errors import problem_of
from serve.http.gate import RayHeaderError
from serve.protection.identity import NotAllowedError
from serve.protection.protection import UnauthenticatedError
from serve.protection.rate_limits import RateLimitedError
from serve.submission.waiting import JobCancelledError, JobFailedError

Responses = dict[int | str, dict[str, Any]]

_PICTURE = "iVBORw0KGgoAAAANSUhEUgAA..."
TEXT_TO_IMAGE: dict[str, Any] = {"prompt": "a large red circle on a blue background", "steps": 20, "seed": 7}
IMAGE_TO_IMAGE: dict[str, Any] = {**TEXT_TO_IMAGE, "init_images": [_PICTURE], "denoising_strength": 0.6}
OPTIONS_BODY: dict[str, Any] = {"sd_model_checkpoint": "shapes"}
IMAGES: dict[str, Any] = {
    "images": [_PICTURE],
    "parameters": TEXT_TO_IMAGE,
    "info": '{"job_id": "6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3d", "seed": 7, "all_seeds": [7], "infotexts": ["..."]}',
}
OPTIONS: dict[str, Any] = {
    "sd_model_checkpoint": "shapes",
    "sd_checkpoint_hash": "",
    "sd_vae": "Automatic",
    "samples_format": "png",
    "CLIP_stop_at_last_layers": 1,
}
MODELS: list[dict[str, Any]] = [
    {
        "title": "shapes",
        "model_name": "shapes",
        "hash": None,
        "sha256": None,
        "filename": "shapes",
        "config": None,
    }
]
SAMPLERS: list[dict[str, Any]] = [{"name": "Euler", "aliases": ["k_euler"], "options": {}}]
SCHEDULERS: list[dict[str, Any]] = [
    {"name": "automatic", "label": "Automatic", "aliases": None, "default_rho": -1.0, "need_inner_model": False}
]
UPSCALERS: list[dict[str, Any]] = [
    {"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
]
PROGRESS: dict[str, Any] = {
    "progress": 0.25,
    "eta_relative": 0.9,
    "state": {
        "skipped": False,
        "interrupted": False,
        "job": "6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3d",
        "job_count": 1,
        "job_no": 0,
        "sampling_step": 5,
        "sampling_steps": 20,
    },
    "current_image": None,
    "textinfo": None,
}


def error(description: str, example: Exception) -> dict[str, Any]:
    """Return an error for FastAPI's ``responses``.

    Args:
        description: When it occurs.
        example: An exception that is then raised.
    """
    return {"model": ErrorBody, "description": description, **answer(error_body(problem_of(example)).model_dump())}


REFUSALS: Responses = {
    422: error("A header is not for clients.", RayHeaderError("x-request-timeout-seconds")),
    401: error("No API key, or a wrong one; it is the password of Basic.", UnauthenticatedError()),
    403: error("The API key is not for this.", NotAllowedError()),
    429: error("Too many requests, or too many jobs wait; `Retry-After` has the seconds.", RateLimitedError()),
}
DOWN: Responses = {503: error("The queue is full, or a part of the service is down.", QueueFullError())}
BAD: Responses = {
    413: error("The body is too large.", InvalidRequestError("The request body is larger than 1048576 bytes.")),
    422: error(
        "A field is not valid.",
        InvalidRequestError("settings.num_inference_steps: 0 is not possible; this model takes 1 to 100."),
    ),
}
IMAGES_ANSWERS: Responses = {
    **REFUSALS,
    200: answer(IMAGES),
    404: error(
        "The model has not this sampler.",
        SamplerNotFoundError('sampler_name: this model has not the sampler "X"; it has: Default, Euler.'),
    ),
    409: error("The job was cancelled: interrupted.", JobCancelledError()),
    500: error("The job failed.", JobFailedError("The model could not be loaded.")),
    504: error("The images were not there in time; the job goes on.", JobFailedError("There was no answer in time.")),
    **BAD,
    **DOWN,
}
