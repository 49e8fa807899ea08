"""What the routes of this dialect answer besides what was asked for, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from serve.api.cyberimage import examples
from serve.submission import IdempotencyConflictError

Responses = dict[int | str, dict[str, Any]]
BAD: Responses = {
    400: examples.error(
        "A field is missing or not valid; the message names it.",
        "settings.num_inference_steps: 0 is not possible; this model takes 1 to 100.",
    ),
    413: examples.error(
        "The body is too large.", "The request body is larger than the 1048576 bytes that are allowed."
    ),
}


OTHER_BODY: Responses = {409: examples.error("The key belongs to another request.", str(IdempotencyConflictError()))}
BAD_QUERY: Responses = {400: examples.error("A parameter is not valid.", 'detailed: "maybe" is not true or false.')}
UNKNOWN_JOB: Responses = {404: examples.error("There is no such job.", "There is no such job.")}
UNKNOWN_IMAGE: Responses = {404: examples.error("There is no such image.", "There is no such image.")}
DOWN: Responses = {
    503: examples.error(
        "A part of the service is down; try again later.", "The job tracker does not answer; it is being restarted."
    )
}
FULL_OR_DOWN: Responses = {
    503: examples.error(
        "The queue is full, and `Retry-After` says in how many seconds to try again; or a part of the service is down.",
        "The queue is full (1000 jobs wait); try again later.",
    )
}
PNG: dict[str, Any] = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
PICTURE: Responses = {
    200: {"content": PNG, "description": "The image."},
    206: {"content": PNG, "description": "The part that the Range header asks for."},
    304: {"description": "The caller's copy is the image."},
    416: examples.error("The image has no such part.", "Range: the image has only 812 bytes, from 0 on."),
}
IMAGE_ANSWERS = PICTURE | UNKNOWN_IMAGE | DOWN
