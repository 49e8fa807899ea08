"""Inputs: pictures that jobs start from."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from deployments.decoding.workers import TooManyPicturesError
from deployments.storage.picture import DamagedPictureError, WrongFormatError
from serve.api.cyberimage import answers, examples
from serve.api.cyberimage.bodies import InputAnswer
from serve.api.cyberimage.parameters import Behind
from serve.errors import ApiError
from serve.http.access import CHANGES, Who
from serve.submission.uploads import keep_upload


class NoPictureTypeError(ApiError):
    """Content-Type: send the file's own bytes as the body, as image/png, image/jpeg or image/webp."""

    status = 415
    code = "unsupported_media_type"


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of the file.",
        "content": {
            f"image/{name}": {"schema": {"type": "string", "format": "binary"}} for name in ("png", "jpeg", "webp")
        },
    }
}
_REFUSALS: answers.Responses = {
    400: examples.error(
        "The picture is damaged, or an animation, or takes too long to decode.", str(DamagedPictureError())
    ),
    413: examples.error(
        "The file has too many bytes, or the picture too many pixels.",
        "The picture has 9000x9000, 81000000 pixels; at most 33554432 (width times height) are taken.",
    ),
    415: examples.error("It is not a picture, or not of these formats.", str(WrongFormatError())),
    429: examples.error("Too many pictures of this client wait, or too many requests.", str(TooManyPicturesError())),
    507: examples.error("The image store is full.", "Could not write 2030/01/01/ID.png: the disk is full."),
}

router = APIRouter()


@router.post(
    "/api/inputs",
    dependencies=[CHANGES],
    tags=["images"],
    openapi_extra=_BODY,
    responses={200: examples.answer(examples.INPUT)} | _REFUSALS | answers.DOWN,
)
async def send_input(behind: Behind, who: Who, request: Request) -> InputAnswer:
    """Send a picture for jobs to start from: give its id as `image`, `mask` or `control_image` of a job."""
    if not request.headers.get("content-type", "").lower().startswith("image/"):
        raise NoPictureTypeError
    kept = await keep_upload(behind, await request.body(), who)
    return InputAnswer(id=kept.id, width=kept.width, height=kept.height)
