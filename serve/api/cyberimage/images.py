"""Images: their bytes, their parameters, their deletion."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response, status
from fastapi.responses import RedirectResponse

from deployments.storage.base import MissingObjectError
from deployments.storage.thumbnails import (
    MEDIA_TYPE,
    THUMBNAIL_SIZES,
    delete_image_files,
    make_thumbnail,
    thumbnail_key,
)
from serve.api.cyberimage import answers, examples
from serve.api.cyberimage.bodies import DoneAnswer, LinkAnswer, image_path
from serve.api.cyberimage.parameters import Behind, Caller, OwnImage
from serve.errors import InvalidRequestError
from serve.http.access import CHANGES, READS, Who
from serve.http.conditional import has_version, respond_with_image
from serve.services.services import Services

_SIZE = Query(description="Pixels of the longer side.", json_schema_extra={"enum": list(THUMBNAIL_SIZES)})

router = APIRouter()


@router.get(
    "/api/image/{image_id}",
    dependencies=[READS],
    tags=["images"],
    responses=answers.IMAGE_ANSWERS,
    response_class=Response,
)
@router.get(
    "/api/get_image/{image_id}",
    dependencies=[READS],
    tags=["images"],
    responses=answers.IMAGE_ANSWERS,
    response_class=Response,
)
async def image_bytes(
    behind: Behind,
    image: OwnImage,
    byte_range: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The bytes of an image. They never change, so a browser may keep them."""
    headers = _lasting(behind, image.sha256)
    if has_version(if_none_match, image.sha256):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    if (url := await behind.storage.public_url(image.key)) is not None:
        return _elsewhere(behind, url)
    part = byte_range if if_range in (None, headers["ETag"]) else None
    return await respond_with_image(behind.storage, image, headers, part)


@router.head("/api/image/{image_id}", dependencies=[READS], include_in_schema=False)
@router.head("/api/get_image/{image_id}", dependencies=[READS], include_in_schema=False)
async def image_headers(behind: Behind, image: OwnImage) -> Response:
    """What ``image_bytes`` answers, but for the bytes."""
    length = await behind.storage.size(image.key)
    headers = {**_lasting(behind, image.sha256), "Accept-Ranges": "bytes", "Content-Length": str(length)}
    return Response(headers=headers, media_type=image.media_type)


@router.get(
    "/api/image/{image_id}/thumbnail",
    dependencies=[READS],
    tags=["images"],
    responses=answers.THUMBNAIL,
    response_class=Response,
)
async def image_thumbnail(
    behind: Behind,
    who: Who,
    image: OwnImage,
    size: Annotated[int, _SIZE] = THUMBNAIL_SIZES[0],
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A small WebP of an image; an image that is smaller keeps its size. It never changes."""
    if size not in THUMBNAIL_SIZES:
        raise InvalidRequestError(f"size: {size} is not possible; it is {' or '.join(map(str, THUMBNAIL_SIZES))}.")
    tag = f"{image.sha256}-{size}"
    if has_version(if_none_match, tag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=_lasting(behind, tag))
    key, encode = thumbnail_key(image.key, size), partial(behind.picture_workers.thumbnail, who.rate_key)
    if (url := await behind.storage.public_url(key)) is not None:
        if not await behind.storage.exists(key):
            await make_thumbnail(behind.storage, image.key, size, encode)
        return _elsewhere(behind, url)
    try:
        content = await behind.storage.read(key)
    except MissingObjectError:
        content = await make_thumbnail(behind.storage, image.key, size, encode)
    return Response(content, media_type=MEDIA_TYPE, headers=_lasting(behind, tag))


def _lasting(behind: Services, tag: str) -> dict[str, str]:
    kept_by = "private" if behind.protection.asks_for_keys else "public"
    return {"ETag": f'"{tag}"', "Cache-Control": f"{kept_by}, max-age=31536000, immutable"}


def _elsewhere(behind: Services, url: str) -> Response:
    """Redirect to an address outside. A browser may cache the redirect for half of the address's life."""
    kept = f"private, max-age={behind.settings.storage.url_seconds // 2}"
    return RedirectResponse(url, headers={"Cache-Control": kept})


@router.get(
    "/api/image/{image_id}/metadata",
    dependencies=[READS],
    tags=["images"],
    responses={200: examples.answer(examples.IMAGE_METADATA)} | answers.UNKNOWN_IMAGE | answers.DOWN,
)
async def image_metadata(image: OwnImage) -> dict[str, Any]:
    """The parameters that made an image; its own seed included."""
    return image.metadata


@router.get(
    "/api/image/{image_id}/link",
    dependencies=[READS],
    tags=["images"],
    responses={200: examples.answer(examples.LINK)} | answers.UNKNOWN_IMAGE | answers.DOWN,
)
async def image_link(behind: Behind, request: Request, image: OwnImage) -> LinkAnswer:
    """An address of an image that works without an API key, for a while: for browsers."""
    link = await behind.protection.links.link_to(image_path(image.id))
    return LinkAnswer(url=link.seen_from(request), expires_at=link.expires_at)


@router.delete(
    "/api/image/{image_id}",
    dependencies=[CHANGES],
    tags=["images"],
    responses={200: examples.answer(examples.DELETED)} | answers.UNKNOWN_IMAGE | answers.DOWN,
)
async def delete_image(behind: Behind, caller: Caller, image: OwnImage) -> DoneAnswer:
    """Delete an image for good."""
    # The record is deleted last: a deletion that fails halfway can be repeated.
    await delete_image_files(behind.storage, image.key)
    await behind.tracker.images.delete(image.id, caller)
    return DoneAnswer(message="The image was deleted.")
