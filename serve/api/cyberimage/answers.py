"""Errors and binary answers of the routes of this dialect, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from deployments.jobs.records.exceptions import QuotaError
from deployments.storage.formats import FORMATS
from serve.api.cyberimage import examples
from serve.submission.submit import IdempotencyConflictError

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
TOO_MANY: Responses = {
    429: examples.error(
        "Too many of your jobs wait; `Retry-After` says in how many seconds to try again.",
        "You have too many jobs waiting (20 may wait); try again later.",
    )
}
DOWN: Responses = {
    503: examples.error(
        "A part of the service is down; try again later.", "The job tracker does not answer; it is being restarted."
    )
}
FULL_OR_DOWN: Responses = {
    503: examples.error(
        "The queue is full, and `Retry-After` says in how many seconds to try again; or a part of the service is down.",
        "The queue is full (1000 may wait); try again later.",
    ),
    507: examples.error("You have as many images as you may keep.", str(QuotaError())),
}
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
FILE: dict[str, Any] = {each.media_type: _BINARY for each in FORMATS.values()}
ELSEWHERE: Responses = {307: {"description": "The image is at the address in `Location`, for a while."}}
PICTURE: Responses = {
    200: {"content": FILE, "description": "The image."},
    206: {"content": FILE, "description": "The part that the Range header asks for."},
    304: {"description": "The caller's copy is the image."},
    416: examples.error("The image has no such part.", "Range: the image has only 812 bytes, from 0 on."),
}
IMAGE_ANSWERS = PICTURE | ELSEWHERE | UNKNOWN_IMAGE | DOWN
THUMBNAIL: Responses = {
    200: {"content": {FORMATS["webp"].media_type: _BINARY}, "description": "The thumbnail."},
    304: {"description": "The caller's copy is the thumbnail."},
    400: examples.error("There is no such size.", "size: 300 is not possible; it is 256 or 512."),
}
THUMBNAIL |= ELSEWHERE | UNKNOWN_IMAGE | DOWN
