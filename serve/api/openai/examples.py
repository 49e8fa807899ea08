"""Examples of the OpenAI dialect and its errors, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from deployments.jobs.records.exceptions import QueueFullError
from serve.api.cyberimage.examples import answer
from serve.api.openai.bodies import ErrorBody
from serve.api.openai.errors import ModelNotFoundError, error_body
from serve.errors import InvalidRequestError
from serve.http.errors import problem_of
from serve.http.event_streams import event_content
from serve.http.gate import RayHeaderError
from serve.protection.identity import NotAllowedError
from serve.protection.protection import UnauthenticatedError
from serve.protection.rate_limits import RateLimitedError
from serve.submission.waiting import JobCancelledError, JobFailedError

Responses = dict[int | str, dict[str, Any]]

_PICTURE = "iVBORw0KGgoAAAANSUhEUgAA..."
GENERATION_BODY: dict[str, Any] = {"model": "shapes", "prompt": "a large red circle on a blue background", "seed": 7}
EDIT_BODY: dict[str, Any] = {"image": "circle.png", "prompt": "a large green circle on a blue background"}
MODEL: dict[str, Any] = {"id": "shapes", "object": "model", "created": 0, "owned_by": "cyberimage"}
MODELS: dict[str, Any] = {"object": "list", "data": [MODEL]}
USAGE: dict[str, Any] = {
    "input_tokens": 8,
    "input_tokens_details": {"text_tokens": 8, "image_tokens": 0},
    "output_tokens": 20,
    "total_tokens": 28,
}
IMAGES: dict[str, Any] = {
    "created": 1893499200,
    "data": [{"b64_json": _PICTURE}],
    "output_format": "png",
    "size": "64x64",
    "quality": "auto",
    "background": "opaque",
    "usage": USAGE,
}
_EVENT = (
    'event: image_generation.partial_image\ndata: {"type": "image_generation.partial_image", "b64_json": "iVBO...", '
    '"created_at": 1893499200, "size": "64x64", "quality": "auto", "background": "opaque", "output_format": "png", '
    '"partial_image_index": 0}\n\n'
)


def error(description: str, example: Exception) -> dict[str, Any]:
    """Return an error for FastAPI's ``responses``.

    Args:
        description: When it occurs.
        example: An exception that is then raised.
    """
    body = error_body(problem_of(example)).model_dump()
    return {"model": ErrorBody, "description": description, **answer(body)}


REFUSALS: Responses = {
    400: error("A header is not for clients.", RayHeaderError("x-request-timeout-seconds")),
    401: error("No API key, or a wrong one.", UnauthenticatedError()),
    403: error("The API key is not for this.", NotAllowedError()),
    429: error("Too many requests, or too many jobs wait; `Retry-After` has the seconds.", RateLimitedError()),
}
UNKNOWN_MODEL: Responses = {
    404: error("There is no such model.", ModelNotFoundError('model: there is no model "x"; available: shapes.'))
}
IMAGES_ANSWERS: Responses = {
    **REFUSALS,
    200: {
        "content": {
            **answer(IMAGES)["content"],
            **event_content(_EVENT),
        }
    },
    400: error(
        "A field is missing or not valid.",
        InvalidRequestError("settings.num_images: 9 is not possible; this model takes 1 to 8."),
    ),
    409: error("The job was cancelled, or the `Idempotency-Key` belongs to another request.", JobCancelledError()),
    413: error("The body is too large.", InvalidRequestError("The request body is larger than 1048576 bytes.")),
    500: error("The job failed.", JobFailedError("The model could not be loaded.")),
    503: error("The queue is full: see `Retry-After`; or a part of the service is down.", QueueFullError()),
    504: error("The images were not there in time; the job goes on.", JobFailedError("There was no answer in time.")),
    **UNKNOWN_MODEL,
}
