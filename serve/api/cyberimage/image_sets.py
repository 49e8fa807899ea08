"""Operations on many images: deletion, download, usage, the sweep."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import StreamingResponse

from deployments.jobs.records.jobs import Image
from deployments.storage.thumbnails import delete_image_files
from deployments.upkeep.sweep import Sweep
from serve.api.cyberimage import answers, examples
from serve.api.cyberimage import gallery_examples as shown
from serve.api.cyberimage.archive import require_small_archive, zip_images
from serve.api.cyberimage.gallery_bodies import DeletedImagesAnswer, ImageIdsBody, SweepAnswer, UsageAnswer
from serve.api.cyberimage.parameters import Behind
from serve.http.access import ADMINISTERS, CHANGES, READS, Who
from serve.protection.identity import Identity
from serve.services.services import Services
from serve.submission.fields import Text

IdsBody = Annotated[ImageIdsBody, Body(examples=[shown.IDS_BODY])]

router = APIRouter()


@router.post(
    "/api/images/delete",
    dependencies=[CHANGES],
    tags=["images"],
    responses={200: examples.answer(shown.DELETED_IMAGES)} | shown.BAD_IDS | answers.DOWN,
)
async def delete_images(behind: Behind, who: Who, body: IdsBody) -> DeletedImagesAnswer:
    """Delete up to 500 images for good. What fails halfway can be repeated."""
    found, missing = await _own_images(behind, who, body)
    # The records are deleted last, all together: a deletion that fails halfway can be repeated.
    for image in found:
        await delete_image_files(behind.storage, image.key)
    deleted = await behind.tracker.images.delete_many([image.id for image in found], who.name)
    count = len(deleted)
    message = "1 image was deleted." if count == 1 else f"{count} images were deleted."
    return DeletedImagesAnswer(deleted=deleted, missing=missing, message=message)


@router.post(
    "/api/images/download",
    dependencies=[READS],
    tags=["images"],
    responses=shown.ARCHIVE | shown.BAD_IDS | answers.DOWN,
    response_class=Response,
)
async def download_images(behind: Behind, who: Who, body: IdsBody) -> Response:
    """Fetch up to 500 images as one ZIP file, as `ID.png`. What could not be read is named in its `missing.txt`."""
    found, missing = await _own_images(behind, who, body)
    require_small_archive(found, behind.settings.max_archive_bytes)
    return StreamingResponse(
        zip_images(behind.storage, found, missing),
        media_type="application/zip",
        headers={"Content-Disposition": 'attachment; filename="images.zip"', "Cache-Control": "no-store"},
    )


@router.get(
    "/api/usage",
    dependencies=[READS],
    tags=["images"],
    responses={200: examples.answer(shown.USAGE), **answers.DOWN},
)
async def usage(behind: Behind, who: Who) -> UsageAnswer:
    """How many images and bytes each owner has of each model; without the scope `admin` only the caller's own."""
    held = await behind.tracker.holdings.of(who.limited_to(None))
    quota = behind.settings.quota
    return UsageAnswer.of(held, quota.images, quota.image_bytes)


@router.post(
    "/api/storage/sweep",
    dependencies=[ADMINISTERS],
    tags=["admin"],
    responses={200: examples.answer(shown.SWEEP), **answers.BAD_QUERY, **answers.DOWN},
)
async def sweep_storage(
    behind: Behind,
    after: Annotated[Text, Query(max_length=255, description="`next_after` of the request before.")] = "",
) -> SweepAnswer:
    """Remove files that are old and have no record, of up to 1000 files; repeat it until `next_after` is null."""
    sweep = Sweep(behind.tracker.upkeep, behind.storage, behind.settings.upkeep)
    if not after:
        await sweep.forget_inputs()
    next_after = None
    async for page in behind.storage.pages(after):
        await sweep.remove_orphans(page)
        next_after = page[-1].key if page else after
        break
    return SweepAnswer.of(sweep.outcome, next_after)


async def _own_images(behind: Services, who: Identity, body: ImageIdsBody) -> tuple[list[Image], list[str]]:
    """Return the images that the caller may see, and the ids of the others."""
    ids = body.canonical()
    found = [image for image in await behind.tracker.images.find(ids) if who.owns(image.client)]
    there = {image.id for image in found}
    return found, [image_id for image_id in ids if image_id not in there]
