"""Images: their bytes, their parameters, their end."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response, status

from deployments.jobs.records import Image
from serve.api.byte_range import respond_with_bytes
from serve.api.cyberimage import answers, examples
from serve.api.cyberimage.bodies import DoneAnswer
from serve.api.cyberimage.parameters import Behind, ImageId

router = APIRouter()


@router.get("/api/image/{image_id}", tags=["images"], responses=answers.IMAGE_ANSWERS, response_class=Response)
@router.get("/api/get_image/{image_id}", tags=["images"], responses=answers.IMAGE_ANSWERS, response_class=Response)
async def image_bytes(
    behind: Behind,
    image_id: ImageId,
    byte_range: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The bytes of an image. They never change, so a browser may keep them."""
    image = await behind.tracker.get_image(image_id)
    headers = _lasting(image)
    if if_none_match is not None and _names(if_none_match, image.sha256):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    part = byte_range if if_range in (None, headers["ETag"]) else None
    return respond_with_bytes(await behind.storage.read(image.key), image.media_type, headers, part)


@router.head("/api/image/{image_id}", include_in_schema=False)
@router.head("/api/get_image/{image_id}", include_in_schema=False)
async def image_headers(behind: Behind, image_id: ImageId) -> Response:
    """What ``image_bytes`` answers, but for the bytes."""
    image = await behind.tracker.get_image(image_id)
    length = await behind.storage.size(image.key)
    headers = {**_lasting(image), "Accept-Ranges": "bytes", "Content-Length": str(length)}
    return Response(headers=headers, media_type=image.media_type)


def _lasting(image: Image) -> dict[str, str]:
    return {"ETag": f'"{image.sha256}"', "Cache-Control": "public, max-age=31536000, immutable"}


def _names(if_none_match: str, checksum: str) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(",")}
    return checksum in tags or "*" in tags


@router.get(
    "/api/image/{image_id}/metadata",
    tags=["images"],
    responses={200: examples.answer(examples.IMAGE_METADATA)} | answers.UNKNOWN_IMAGE | answers.DOWN,
)
async def image_metadata(behind: Behind, image_id: ImageId) -> dict[str, Any]:
    """The parameters that made an image; its own seed included."""
    return (await behind.tracker.get_image(image_id)).metadata


@router.delete(
    "/api/image/{image_id}",
    tags=["images"],
    responses={200: examples.answer(examples.DELETED)} | answers.UNKNOWN_IMAGE | answers.DOWN,
)
async def delete_image(behind: Behind, image_id: ImageId) -> DoneAnswer:
    """Delete an image for good."""
    image = await behind.tracker.get_image(image_id)
    # The record goes last: a deletion that fails halfway can be repeated.
    await behind.storage.delete(image.key)
    await behind.tracker.delete_image(image_id)
    return DoneAnswer(message="The image was deleted.")
