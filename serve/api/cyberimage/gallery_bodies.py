"""Bodies of the routes about many images: the gallery, tags, lineage, usage, upkeep."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from deployments.jobs.images.gallery import GalleryImage, GalleryPage
from deployments.jobs.images.holdings import Holding
from deployments.jobs.images.lineage import Lineage, Relative
from deployments.upkeep.sweep import SweepOutcome
from serve.api.cyberimage.bodies import Moment, image_path
from serve.submission.fields import Body, Text, shared_fields

MOST_IDS = 500


class ShownImage(Body):
    """An image of the gallery."""

    id: str
    model_id: str
    file_path: str = Field(description="The path that answers with its bytes.")
    prompt: str
    created_at: Moment
    settings: dict[str, Any] = Field(description="What made it; its own seed included.")
    media_type: Literal["image"] = Field(default="image", description="Always `image`.")
    width: int
    height: int
    owner: str = Field(description="Whose job made it.")
    job_id: str
    favourite: bool
    tags: list[str]

    @classmethod
    def of(cls, image: GalleryImage) -> ShownImage:
        """Describe an image of the gallery."""
        fields = shared_fields(cls, image) | {"media_type": "image"}  # not that of the file
        settings = image.metadata.get("settings", {})
        return cls(**fields, file_path=image_path(image.id), settings=settings, owner=image.client)


class GalleryAnswer(Body):
    """Images, newest first."""

    images: list[ShownImage]
    page: int
    limit: int
    has_more: bool
    total: int = Field(description="Images that match; where anything but model and owner is asked for, up to 1000.")
    next_cursor: str | None = Field(default=None, description="For `cursor` of the next page; null on the last one.")

    @classmethod
    def of(cls, found: GalleryPage, page: int, limit: int) -> GalleryAnswer:
        """Describe a page of the gallery."""
        fields = shared_fields(cls, found) | {"images": [ShownImage.of(image) for image in found.images]}
        return cls(**fields, page=page, limit=limit, has_more=found.next_cursor is not None)


class TagsOfImageAnswer(Body):
    """The tags of an image."""

    tags: list[str] = Field(description="In alphabetical order.")


class CountedTag(Body):
    """A tag, and how many images have it."""

    tag: str
    images: int


class TagsAnswer(Body):
    """All tags."""

    tags: list[CountedTag] = Field(description="In alphabetical order.")


class RelatedPicture(Body):
    """A picture that an image was made from, or an image that was made from it."""

    id: str
    kind: Literal["image", "input", "deleted"] = Field(description="`deleted`: it is no longer there.")
    role: str = Field(description="How the older one was used: `image`, `mask` or `control_image`.")
    of: str = Field(description="The picture of the lineage that it is directly related to.")
    generation: int = Field(description="1: directly made from, or made of, the image that was asked for.")
    file_path: str | None = Field(default=None, description="The path that answers with the bytes of an image.")

    @classmethod
    def of_record(cls, relative: Relative) -> RelatedPicture:
        """Describe a picture of a lineage."""
        path = image_path(relative.id) if relative.kind == "image" else None
        return cls(**relative.model_dump(), file_path=path)


class LineageAnswer(Body):
    """What an image was made from, and what was made from it; the nearest first, up to 500 each."""

    id: str
    ancestors: list[RelatedPicture]
    descendants: list[RelatedPicture]

    @classmethod
    def of(cls, image_id: str, lineage: Lineage) -> LineageAnswer:
        """The lineage of an image."""
        sides = {name: [RelatedPicture.of_record(each) for each in found] for name, found in lineage}
        return cls(id=image_id, **sides)


class ImageIdsBody(Body):
    """Images."""

    ids: list[Text] = Field(min_length=1, max_length=MOST_IDS, description="1 to 500 ids of images.")

    def canonical(self) -> list[str]:
        """Return the ids in their canonical form, each once; what is no UUID stays as it is."""
        return list(dict.fromkeys(_canonical(each) for each in self.ids))


class DeletedImagesAnswer(Body):
    """Images were deleted."""

    status: Literal["success"] = "success"
    deleted: list[str]
    missing: list[str] = Field(description="Ids of no image.")
    message: str


class OwnedImages(Body):
    """How many images an owner has of a model."""

    owner: str
    model_id: str
    images: int
    bytes: int = Field(description="Of the image files; thumbnails are not counted.")


class UsageAnswer(Body):
    """Who has how many images."""

    usage: list[OwnedImages] = Field(description="By owner and model.")
    images: int = Field(description="All together.")
    bytes: int = Field(description="All together.")
    quota_images: int | None = Field(default=None, description="Images that an owner may have; null: no limit.")
    quota_bytes: int | None = Field(default=None, description="Bytes that an owner may have; null: no limit.")

    @classmethod
    def of(cls, held: list[Holding], quota_images: int | None, quota_bytes: int | None) -> UsageAnswer:
        """What there is."""
        rows = [OwnedImages(owner=each.client, **each.model_dump(exclude={"client"})) for each in held]
        return cls(
            usage=rows,
            images=sum(row.images for row in rows),
            bytes=sum(row.bytes for row in rows),
            quota_images=quota_images,
            quota_bytes=quota_bytes,
        )


class SweepAnswer(Body):
    """A part of the storage was swept."""

    status: Literal["success"] = "success"
    files: int = Field(description="Files that were looked at.")
    removed: int = Field(description="Files without a record that were removed.")
    removed_bytes: int
    inputs: int = Field(description="Pictures that were sent and that no job names, whose records were removed.")
    unfinished: int = Field(description="Files of writes that were never finished, which were removed.")
    next_after: str | None = Field(default=None, description="For `after` of the next request; null: all was swept.")
    message: str

    @classmethod
    def of(cls, outcome: SweepOutcome, next_after: str | None) -> SweepAnswer:
        """Describe the outcome of a sweep."""
        removed = outcome.orphans
        return cls(
            files=outcome.files,
            removed=removed,
            removed_bytes=outcome.orphan_bytes,
            inputs=outcome.inputs,
            unfinished=outcome.unfinished,
            next_after=next_after,
            message="1 file was removed." if removed == 1 else f"{removed} files were removed.",
        )


def _canonical(image_id: str) -> str:
    try:
        return str(UUID(image_id))
    except ValueError:
        return image_id
