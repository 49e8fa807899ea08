"""Images of completed jobs, and the gallery of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.exceptions import UnknownImageError
from deployments.jobs.records import Image, Record
from deployments.jobs.rows import image_of
from deployments.jobs.tables import images, jobs


class GalleryPage(Record):
    """One page of the gallery, newest first."""

    images: list[Image]
    total: int
    """Images that match, on all pages."""


def _images() -> Select[Any]:
    return select(images, jobs.c.model_id).join(jobs, images.c.job_id == jobs.c.id)


@dataclass(frozen=True)
class Images:
    """What is done with images, within one transaction."""

    connection: AsyncConnection

    async def of_job(self, job_id: str) -> list[Image]:
        """See :meth:`JobStore.images_of`."""
        found = await self.connection.execute(_images().where(images.c.job_id == job_id).order_by(images.c.index))
        return [image_of(row) for row in found.mappings()]

    async def get(self, image_id: str) -> Image:
        """See :meth:`JobStore.get_image`."""
        found = await self.connection.execute(_images().where(images.c.id == image_id))
        row = found.mappings().one_or_none()
        if row is None:
            raise UnknownImageError(f"There is no image {image_id}.")
        return image_of(row)

    async def delete(self, image_id: str) -> Image:
        """See :meth:`JobStore.delete_image`."""
        image = await self.get(image_id)
        await self.connection.execute(delete(images).where(images.c.id == image_id))
        return image

    async def page(self, page: int, limit: int, search: str, model_id: str | None) -> GalleryPage:
        """See :meth:`JobStore.list_images`."""
        matching = _images()
        if model_id is not None:
            matching = matching.where(jobs.c.model_id == model_id)
        for word in search.split():
            matching = matching.where(jobs.c.search_text.contains(word.casefold(), autoescape=True))
        total = await self.connection.scalar(select(func.count()).select_from(matching.subquery()))
        shown = matching.order_by(images.c.number.desc()).limit(limit).offset((page - 1) * limit)
        found = await self.connection.execute(shown)
        return GalleryPage(images=[image_of(row) for row in found.mappings()], total=total or 0)
