"""The gallery, favourites, tags, and the lineage of images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from deployments.jobs.images.gallery import GalleryFilter
from serve.api.cyberimage import answers, control_examples, examples
from serve.api.cyberimage import gallery_examples as shown
from serve.api.cyberimage.bodies import DoneAnswer
from serve.api.cyberimage.gallery_bodies import (
    GalleryAnswer,
    LineageAnswer,
    TagsAnswer,
    TagsOfImageAnswer,
)
from serve.api.cyberimage.parameters import Behind, OwnImage, Time
from serve.errors import InvalidRequestError
from serve.http.access import CHANGES, READS, Who
from serve.submission.fields import Text

MOST_ON_A_PAGE = 50
LONGEST_TAG = 64

router = APIRouter()


async def _tag(
    tag: Annotated[str, Path(description=f"1 to {LONGEST_TAG} characters, no control characters and no /.")],
) -> str:
    return tag_of(tag)


def tag_of(text: str) -> str:
    """Normalise a tag: small letters, single spaces, none around it.

    Raises:
        InvalidRequestError: It cannot be a tag.
    """
    tag = " ".join(text.casefold().split())
    if not 1 <= len(tag) <= LONGEST_TAG:
        raise InvalidRequestError(f"tag: it has {len(tag)} characters; it may have 1 to {LONGEST_TAG}.")
    if not tag.isprintable() or "/" in tag:
        raise InvalidRequestError("tag: control characters and / are not possible in it; letters and spaces are.")
    return tag


Tag = Annotated[str, Depends(_tag)]


@router.get(
    "/api/gallery",
    dependencies=[READS],
    tags=["images"],
    responses={200: examples.answer(shown.GALLERY)} | control_examples.BAD_LIST | answers.DOWN,
)
async def gallery(  # noqa: PLR0913, PLR0917 - each is a parameter of the route
    behind: Behind,
    who: Who,
    page: Annotated[int, Query(ge=1, le=1_000_000, description="From 1; of no meaning with `cursor`.")] = 1,
    limit: Annotated[int, Query(ge=1, description="Images on a page; more than 50 are taken for 50.")] = 20,
    search: Annotated[
        Text, Query(max_length=1000, description="Words; each must be, or begin, one of the prompt or the model id.")
    ] = "",
    model: Annotated[Text | None, Query(description="Only images of this model.")] = None,
    cursor: Annotated[Text | None, Query(description="`next_cursor` of the page before, in place of `page`.")] = None,
    created_after: Annotated[Time | None, Query(description="Only images that were made later.")] = None,
    created_before: Annotated[Time | None, Query(description="Only images that were made earlier.")] = None,
    size: Annotated[
        str | None, Query(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$", description="Only images of this size, as `64x64`.")
    ] = None,
    favourite: Annotated[bool | None, Query(description="Only favourites, or only others.")] = None,
    tag: Annotated[
        list[str] | None, Query(max_length=10, description="Only images with this tag; may be repeated.")
    ] = None,
    owner: Annotated[Text | None, Query(description="Only images of this owner.")] = None,
) -> GalleryAnswer:
    """Images, newest first. Pages by `cursor` stay the same when new images come; those by `page` move on."""
    limit = min(limit, MOST_ON_A_PAGE)
    if not who.owns(owner or who.name):
        return GalleryAnswer(images=[], page=page, limit=limit, has_more=False, total=0)
    wanted = GalleryFilter(
        search=search,
        model_id=model,
        client=who.limited_to(owner),
        created_after=created_after,
        created_before=created_before,
        size=None if size is None else _sides(size),
        favourite=favourite,
        tags=tuple(dict.fromkeys(map(tag_of, tag or ()))),
    )
    found = await behind.tracker.gallery.page(wanted, page, limit, cursor)
    return GalleryAnswer.of(found, page, limit)


@router.put(
    "/api/image/{image_id}/favourite",
    dependencies=[CHANGES],
    tags=["images"],
    responses={200: examples.answer(shown.FAVOURITE)} | answers.UNKNOWN_IMAGE | answers.DOWN,
)
async def mark_favourite(behind: Behind, image: OwnImage) -> DoneAnswer:
    """Make an image a favourite."""
    await behind.tracker.gallery.mark_favourite(image.id, favourite=True)
    return DoneAnswer(message="The image is a favourite.")


@router.delete(
    "/api/image/{image_id}/favourite",
    dependencies=[CHANGES],
    tags=["images"],
    responses={200: examples.answer(shown.NO_FAVOURITE)} | answers.UNKNOWN_IMAGE | answers.DOWN,
)
async def unmark_favourite(behind: Behind, image: OwnImage) -> DoneAnswer:
    """Make a favourite an image like others."""
    await behind.tracker.gallery.mark_favourite(image.id, favourite=False)
    return DoneAnswer(message="The image is no favourite.")


@router.put(
    "/api/image/{image_id}/tags/{tag}",
    dependencies=[CHANGES],
    tags=["images"],
    responses={200: examples.answer(shown.TAGS_OF_IMAGE)}
    | shown.BAD_TAG
    | answers.UNKNOWN_IMAGE
    | shown.TOO_MANY_TAGS
    | answers.DOWN,
)
async def tag_image(behind: Behind, image: OwnImage, tag: Tag) -> TagsOfImageAnswer:
    """Give an image a tag, which is kept in small letters; it may have 50."""
    return TagsOfImageAnswer(tags=await behind.tracker.gallery.tag(image.id, tag))


@router.delete(
    "/api/image/{image_id}/tags/{tag}",
    dependencies=[CHANGES],
    tags=["images"],
    responses={200: examples.answer(shown.TAGS_OF_IMAGE)} | shown.BAD_TAG | answers.UNKNOWN_IMAGE | answers.DOWN,
)
async def untag_image(behind: Behind, image: OwnImage, tag: Tag) -> TagsOfImageAnswer:
    """Take a tag from an image; one that it does not have is no error."""
    return TagsOfImageAnswer(tags=await behind.tracker.gallery.untag(image.id, tag))


@router.get(
    "/api/tags",
    dependencies=[READS],
    tags=["images"],
    responses={200: examples.answer(shown.TAGS), **answers.DOWN},
)
async def list_tags(behind: Behind, who: Who) -> TagsAnswer:
    """The tags of all images, and how many images have each."""
    found = await behind.tracker.gallery.list_tags(who.limited_to(None))
    return TagsAnswer.model_validate({"tags": [each.model_dump() for each in found]})


@router.get(
    "/api/image/{image_id}/lineage",
    dependencies=[READS],
    tags=["images"],
    responses={200: examples.answer(shown.LINEAGE)} | answers.UNKNOWN_IMAGE | answers.DOWN,
)
async def image_lineage(behind: Behind, who: Who, image: OwnImage) -> LineageAnswer:
    """What an image was made from, and what was made from it, to the end."""
    return LineageAnswer.of(image.id, await behind.tracker.lineages.of(image.id, who.limited_to(None)))


def _sides(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height)
